"""The rules of relevance against plain loops in float64 that follow their definitions."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from crespr_onnx.training.relevance.rules import (
    EPSILON,
    Share,
    epsilon_rule,
    gradient_rule,
    positive_rule,
)

torch.set_num_threads(1)

Array = np.ndarray


def numbers(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def divided(terms: Array, total: float, relevance: float) -> Array:
    return np.zeros_like(terms) if total == 0 else terms / total * relevance


def linear_by_hand(
    x: Array, w: Array, r: Array, positive: bool, bias: Array
) -> tuple[Array, Array]:
    """Relevance of inputs [samples, n_in] and of connections [n_out, n_in]."""
    inputs, links = np.zeros_like(x), np.zeros_like(w)
    for n in range(len(x)):
        for j in range(len(w)):
            terms = np.array([x[n, i] * w[j, i] for i in range(w.shape[1])])
            if positive:
                terms = np.maximum(terms, 0.0)
                shares = divided(terms, terms.sum(), r[n, j])
            else:
                z = terms.sum() + bias[j]
                shares = terms / (z + EPSILON * (1.0 if z >= 0 else -1.0)) * r[n, j]
            inputs[n] += shares
            links[j] += shares
    return inputs, links


def check(share: Share, expected: tuple[Array, Array]) -> None:
    np.testing.assert_allclose(share.inputs.numpy(), expected[0], rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(share.weights.numpy(), expected[1], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("rectified", [True, False])
def test_positive_rule_of_a_linear_layer(rectified: bool) -> None:
    x, w, r = numbers(1, 5, 4), numbers(2, 3, 4), numbers(3, 5, 3).abs()
    x = x.clamp(min=0) if rectified else x
    share = positive_rule(functional.linear, x, w, r, torch.ones(3))
    check(share, linear_by_hand(x.numpy(), w.numpy(), r.numpy(), True, np.zeros(3)))
    assert (share.inputs >= 0).all()


def test_positive_rule_turns_the_sign_where_a_batch_norm_does() -> None:
    x, w, r = numbers(1, 5, 4), numbers(2, 3, 4), numbers(3, 5, 3).abs()
    scale = torch.tensor([2.0, -0.5, 1.0], dtype=torch.float64)
    share = positive_rule(functional.linear, x, w, r, scale)
    folded = w.numpy() * scale.numpy()[:, None]
    check(share, linear_by_hand(x.numpy(), folded, r.numpy(), True, np.zeros(3)))


def test_positive_rule_by_the_signs_of_weights_alone() -> None:
    x, w, r = numbers(1, 5, 4), numbers(2, 3, 4), numbers(3, 5, 3)
    share = positive_rule(functional.linear, x, w, r, torch.ones(3), any_input=True)
    expected = np.zeros((5, 4))
    for n, j in np.ndindex(5, 3):
        terms = x[n].numpy() * np.maximum(w[j].numpy(), 0.0)
        expected[n] += terms / terms.sum() * float(r[n, j])
    np.testing.assert_allclose(share.inputs.numpy(), expected, rtol=1e-6)


def test_positive_rule_without_a_positive_term_gives_nothing() -> None:
    x, w = torch.ones(1, 2), torch.tensor([[-1.0, -2.0]])
    share = positive_rule(functional.linear, x, w, torch.ones(1, 1), torch.ones(1))
    assert share.inputs.tolist() == [[0.0, 0.0]]
    assert share.weights.tolist() == [[0.0, 0.0]]


def test_epsilon_rule_of_a_linear_layer_with_bias_and_scale() -> None:
    x, w, r, b = numbers(1, 5, 4), numbers(2, 3, 4), numbers(3, 5, 3), numbers(4, 3)
    scale = torch.tensor([2.0, -0.5, 1.0], dtype=torch.float64)
    output = functional.linear(x, w, b) * scale
    share = epsilon_rule(functional.linear, x, w, r, scale, output)
    folded = (w * scale[:, None]).numpy()
    check(share, linear_by_hand(x.numpy(), folded, r.numpy(), False, (b * scale).numpy()))


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (2, 1), (3, 2)])
def test_positive_rule_of_a_convolution(stride: int, padding: int) -> None:
    x, w = numbers(1, 2, 3, 6, 5).clamp(min=0), numbers(2, 4, 3, 3, 2)

    def form(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(x, w, None, stride, padding)

    r = torch.rand_like(form(x, w))
    share = positive_rule(form, x, w, r, torch.ones(()))
    inputs, links = np.zeros(x.shape), np.zeros(w.shape)
    for n, j, row, col in np.ndindex(*r.shape):
        terms: dict[tuple[int, ...], float] = {}
        for i, u, v in np.ndindex(3, 3, 2):
            at = (n, i, row * stride + u - padding, col * stride + v - padding)
            if 0 <= at[2] < 6 and 0 <= at[3] < 5:
                terms[(i, u, v)] = max(float(x[at] * w[j, i, u, v]), 0.0)
        total = sum(terms.values())
        for (i, u, v), term in terms.items():
            part = term / total * float(r[n, j, row, col]) if total else 0.0
            inputs[n, i, row * stride + u - padding, col * stride + v - padding] += part
            links[j, i, u, v] += part
    check(share, (inputs, links))


def test_epsilon_rule_of_a_sum() -> None:
    a, b, r = numbers(1, 3, 4), numbers(2, 3, 4), numbers(3, 3, 4)
    to_a, to_b = gradient_rule(torch.add, [a, b], [r], divide=True)
    for at in np.ndindex(3, 4):
        z = float(a[at] + b[at])
        z += EPSILON if z >= 0 else -EPSILON
        assert float(to_a[at]) == pytest.approx(float(a[at] / z * r[at]), rel=1e-9)
        assert float(to_b[at]) == pytest.approx(float(b[at] / z * r[at]), rel=1e-9)


def test_max_pooling_gives_all_to_the_winner() -> None:
    x, r = numbers(1, 2, 3, 4, 4), numbers(2, 2, 3, 2, 2)
    (found,) = gradient_rule(lambda x: functional.max_pool2d(x, 2), [x], [r], divide=True)
    expected = np.zeros(x.shape)
    for n, c, row, col in np.ndindex(2, 3, 2, 2):
        window = x[n, c, 2 * row : 2 * row + 2, 2 * col : 2 * col + 2].numpy()
        u, v = np.unravel_index(window.argmax(), window.shape)
        z = window.max()
        share = z / (z + EPSILON * (1 if z >= 0 else -1))
        expected[n, c, 2 * row + u, 2 * col + v] = share * float(r[n, c, row, col])
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)


def test_average_pooling_divides_by_size() -> None:
    x, r = numbers(1, 2, 3, 4, 4).abs(), numbers(2, 2, 3, 2, 2)
    (found,) = gradient_rule(lambda x: functional.avg_pool2d(x, 2), [x], [r], divide=True)
    expected = np.zeros(x.shape)
    for n, c, row, col in np.ndindex(2, 3, 2, 2):
        window = (slice(2 * row, 2 * row + 2), slice(2 * col, 2 * col + 2))
        values = x[n, c][window].numpy()
        expected[n, c][window] += values / 4 / (values.mean() + EPSILON) * float(r[n, c, row, col])
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)


def test_moves_keep_relevance_where_there_is_no_value() -> None:
    x = torch.zeros(2, 6, dtype=torch.float64)
    r = numbers(1, 3, 4)
    (found,) = gradient_rule(lambda x: x.reshape(3, 4), [x], [r], divide=False)
    np.testing.assert_array_equal(found.numpy(), r.reshape(2, 6).numpy())
