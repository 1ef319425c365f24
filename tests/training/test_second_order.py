"""The closed forms against the definitions, written out in float64 with plain inverses."""

import numpy as np
import pytest

from crespr_onnx.training.calibration import Moments
from crespr_onnx.training.second_order import cut_cost, damped, fit, loss, saliency

Matrix = np.ndarray
ROWS, N, M = 60, 8, 5


def data(seed: int = 0, rows: int = ROWS) -> tuple[Matrix, Matrix, Matrix]:
    """Rows read (the last column is the bias's 1), dense weights, and answers that differ a bit."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, N)) @ rng.normal(size=(N, N)) + rng.normal(size=N)
    x = np.column_stack([x, np.ones(rows)])
    w = rng.normal(size=(M, N + 1))
    return x, w, x @ w.T + 0.1 * rng.normal(size=(rows, M))


def moments(x: Matrix, y: Matrix) -> Moments:
    return Moments(x.T @ x / len(x), y.T @ x / len(x), (y**2).mean(axis=0), len(x))


def some_mask(seed: int = 1) -> Matrix:
    """Rows of two overlapping clusters, one row on its own, and the bias throughout."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((M, N + 1), dtype=bool)
    mask[:2, :5], mask[2:4, 3:], mask[4, :N] = True, True, rng.random(N) < 0.5
    mask[:, N] = True
    return mask


def losses(x: Matrix, y: Matrix, w: Matrix) -> Matrix:
    return ((y - x @ w.T) ** 2).mean(axis=0)


def test_loss_is_the_mean_squared_distance() -> None:
    x, w, y = data()
    other = w + np.random.default_rng(3).normal(size=w.shape)
    np.testing.assert_allclose(loss(moments(x, y), other), losses(x, y, other), rtol=1e-10)


def test_fit_is_least_squares_on_the_kept_inputs() -> None:
    x, w, y = data()
    mask = some_mask()
    found = fit(moments(x, y), np.where(mask, w, 0), mask, damping=0.0)
    for row in range(M):
        best = np.linalg.lstsq(x[:, mask[row]], y[:, row], rcond=None)[0]
        np.testing.assert_allclose(found[row, mask[row]], best, rtol=1e-8)
        assert (found[row, ~mask[row]] == 0).all()


def test_fit_is_the_formula_of_the_design() -> None:
    x, w, _ = data()
    other = x + 0.3 * np.random.default_rng(4).normal(size=x.shape)  # what the compressed one reads
    other[:, N] = 1
    mask = some_mask()
    cross, hessian = x.T @ other / ROWS, other.T @ other / ROWS
    found = fit(moments(other, x @ w.T), np.zeros_like(w), mask, damping=0.1)
    ridge = 0.1 * np.diag(hessian)[:N].mean() * np.eye(N + 1)
    ridge[N, N] = 0
    for row in range(M):
        s = np.flatnonzero(mask[row])
        expected = w[row] @ cross[:, s] @ np.linalg.inv((hessian + ridge)[np.ix_(s, s)])
        np.testing.assert_allclose(found[row, s], expected, rtol=1e-8)


def test_the_loss_after_the_fit_is_the_predicted_cost_of_the_cut() -> None:
    x, w, _ = data()
    mask = some_mask()
    exact = moments(x, x @ w.T)
    found = fit(exact, np.where(mask, w, 0), mask, damping=0.0)
    measured = losses(x, x @ w.T, found)
    np.testing.assert_allclose(cut_cost(w, exact.gram, mask, damping=0.0), measured, rtol=1e-8)
    np.testing.assert_allclose(loss(exact, found), measured, rtol=1e-8)


def test_cut_cost_is_the_formula_of_the_design() -> None:
    x, w, y = data()
    gram, mask = moments(x, y).gram, some_mask()
    inverse = np.linalg.inv(damped(gram, 0.05))
    for row, found in enumerate(cut_cost(w, gram, mask, damping=0.05)):
        p = np.flatnonzero(~mask[row])
        expected = w[row, p] @ np.linalg.inv(inverse[np.ix_(p, p)]) @ w[row, p]
        assert found == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("damping", [0.0, 0.01, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_fit_never_loses_to_the_weights_that_it_starts_from(seed: int, damping: float) -> None:
    x, w, y = data(seed)
    mask = np.random.default_rng(seed).random(w.shape) < 0.4
    start = np.where(mask, w, 0)
    found = fit(moments(x, y), start, mask, damping)
    assert (losses(x, y, found) <= losses(x, y, start) * (1 + 1e-12)).all()


def test_a_full_mask_and_the_same_inputs_give_the_weights_back() -> None:
    x, w, _ = data()
    found = fit(moments(x, x @ w.T), w, np.ones_like(w, dtype=bool))
    np.testing.assert_allclose(found, w, rtol=1e-9)


def test_weights_of_dead_inputs_stay_as_they_are() -> None:
    x, w, _ = data()
    x[:, [1, 4]] = 0
    mask = some_mask()
    found = fit(moments(x, x @ w.T), np.where(mask, w, 0), mask)
    np.testing.assert_allclose(found[:, [1, 4]], np.where(mask, w, 0)[:, [1, 4]], rtol=1e-9)


def test_inputs_that_are_all_dead_change_nothing_but_the_bias() -> None:
    x, w, _ = data()
    x[:, :N] = 0
    mask = np.ones_like(w, dtype=bool)
    found = fit(moments(x, np.full((ROWS, M), 2.0)), w, mask)
    np.testing.assert_allclose(found, np.column_stack([w[:, :N], np.full(M, 2.0)]), rtol=1e-12)
    assert (saliency(w[:, :N], moments(x, x @ w.T).gram, 1, 0.01) == w[:, :N] ** 2).all()


def test_fewer_samples_than_inputs_and_equal_inputs_can_be_solved() -> None:
    x, w, y = data(rows=3)
    x[:, 2] = x[:, 3]
    mask = some_mask()
    found = fit(moments(x, y), np.where(mask, w, 0), mask)
    assert np.abs(found).max() < 10 * np.abs(w).max()
    assert (losses(x, y, found) <= losses(x, y, np.where(mask, w, 0))).all()
    assert np.isfinite(cut_cost(w, moments(x, y).gram, mask)).all()


def test_a_cut_that_takes_nothing_costs_nothing() -> None:
    x, w, y = data()
    mask = np.ones_like(w, dtype=bool)
    assert (cut_cost(w, moments(x, y).gram, mask) == 0).all()


@pytest.mark.parametrize("taps", [1, 2, 4])
def test_saliency_is_the_cost_of_cutting_one_connection(taps: int) -> None:
    x, w, y = data()
    gram = moments(x, y).gram
    inverse = np.linalg.inv(damped(gram, 0.02))
    found = saliency(w[:, :N], gram, taps, 0.02)
    assert found.shape == (M, N // taps)
    for j, i in np.ndindex(*found.shape):
        b = np.arange(i * taps, (i + 1) * taps)
        expected = w[j, b] @ np.linalg.inv(inverse[np.ix_(b, b)]) @ w[j, b]
        mask = np.ones((1, N + 1), dtype=bool)
        mask[0, b] = False
        assert found[j, i] == pytest.approx(expected, rel=1e-8)
        assert found[j, i] == pytest.approx(cut_cost(w[[j]], gram, mask, 0.02)[0], rel=1e-8)
