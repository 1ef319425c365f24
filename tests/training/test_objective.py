"""The loss of fine-tuning against a float64 reference that follows its definition literally."""

import numpy as np
import pytest
import torch

from crespr_onnx.training.objective import Batch, Objective

RNG = np.random.default_rng(0)
SCORES, TARGET = RNG.normal(size=(2, 7, 5)) * 3
LABELS = np.array([0, 4, 1, 1, 2, 3, 0])


def softmax(scores: np.ndarray) -> np.ndarray:
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def distillation(scores: np.ndarray, target: np.ndarray, t: float) -> float:
    """T^2 KL(teacher || student) at temperature T, mean over the batch (Hinton 2015, 2.1)."""
    p, q = softmax(target / t), softmax(scores / t)
    total = 0.0
    for row in range(len(p)):
        for c in range(p.shape[1]):
            total += p[row, c] * np.log(p[row, c] / q[row, c])
    return t * t * total / len(p)


def cross_entropy(scores: np.ndarray, labels: np.ndarray) -> float:
    p = softmax(scores)
    return -sum(np.log(p[row, c]) for row, c in enumerate(labels)) / len(labels)


def batch(target: np.ndarray, labels: np.ndarray | None = None) -> Batch:
    known = None if labels is None else torch.from_numpy(labels)
    return Batch((), (torch.from_numpy(target),), known)


def loss(objective: Objective, scores: np.ndarray, given: Batch) -> float:
    return float(objective.loss(torch.from_numpy(scores), given))


@pytest.mark.parametrize("temperature", [1.0, 3.0, 10.0])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_labels_and_teacher_are_weighed(temperature: float, share: float) -> None:
    objective = Objective(True, temperature=temperature, label_weight=share)
    expected = share * cross_entropy(SCORES, LABELS) + (1 - share) * distillation(
        SCORES, TARGET, temperature
    )
    found = loss(objective, SCORES, batch(TARGET, LABELS))
    assert found == pytest.approx(expected, rel=1e-12)


def test_without_labels_the_teacher_is_all() -> None:
    found = loss(Objective(True), SCORES, batch(TARGET))
    assert found == pytest.approx(distillation(SCORES, TARGET, 3.0), rel=1e-12)


def test_the_teacher_itself_has_no_distance() -> None:
    assert loss(Objective(True), TARGET, batch(TARGET)) == pytest.approx(0.0, abs=1e-12)
    # A constant for all classes changes no probability.
    assert loss(Objective(True), TARGET + 5, batch(TARGET)) == pytest.approx(0.0, abs=1e-12)


def test_probabilities_count_as_the_scores_behind_them() -> None:
    objective = Objective(True, probabilities=True)
    found = loss(objective, softmax(SCORES), batch(softmax(TARGET), LABELS))
    expected = 0.3 * cross_entropy(SCORES, LABELS) + 0.7 * distillation(SCORES, TARGET, 3.0)
    assert found == pytest.approx(expected, rel=1e-9)


def test_a_probability_of_zero_is_finite() -> None:
    certain = np.eye(5)[LABELS]
    scores = torch.from_numpy(np.eye(5)[(LABELS + 1) % 5]).requires_grad_()
    value = Objective(True, probabilities=True).loss(scores, batch(certain, LABELS))
    value.backward()
    assert torch.isfinite(value)
    assert scores.grad is not None
    assert torch.isfinite(scores.grad).all()


def test_other_outputs_are_compared_relative_to_their_variance() -> None:
    answers = [RNG.normal(size=(6, 3)), 100 * RNG.normal(size=(6, 2, 4)) + 7]
    targets = [RNG.normal(size=(6, 3)), 100 * RNG.normal(size=(6, 2, 4)) + 7]
    given = Batch((), tuple(map(torch.from_numpy, targets)), None)
    expected = np.mean([
        ((a - t) ** 2).mean() / ((t - t.mean()) ** 2).mean()
        for a, t in zip(answers, targets, strict=True)
    ])  # fmt: skip
    for sequence in (list, tuple):
        outputs = sequence(map(torch.from_numpy, answers))
        found = float(Objective(False).loss(outputs, given))
        assert found == pytest.approx(expected, rel=1e-9)


def test_known_variances_take_the_place_of_those_of_the_batch() -> None:
    answers, targets = [RNG.normal(size=(6, 3)) for _ in range(2)], [np.ones((6, 3)), None]
    given = Batch((), (torch.from_numpy(targets[0]), None), None)
    objective = Objective(False, variances=(4.0, 0.0))
    found = float(objective.loss([torch.from_numpy(a) for a in answers], given))
    assert found == pytest.approx(((answers[0] - 1) ** 2).mean() / 4.0, rel=1e-9)


def test_a_constant_output_is_no_division_by_zero() -> None:
    found = loss(Objective(False), np.ones((4, 1)), batch(np.ones((4, 1))))
    assert found == 0.0


def test_labels_do_not_matter_where_nothing_is_classified() -> None:
    found = [loss(Objective(False), SCORES, batch(TARGET, labels)) for labels in (None, LABELS)]
    assert found[0] == found[1]


def test_a_missing_output_is_an_error() -> None:
    given = Batch((), (torch.ones(2, 3), torch.ones(2, 3)), None)
    with pytest.raises(ValueError, match="is longer than"):
        Objective(False).loss(torch.ones(2, 3), given)
