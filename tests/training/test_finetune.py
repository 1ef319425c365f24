"""The training loop: it learns, it repeats itself, and its learning rate is what it says."""

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest
import torch
from training_models import array, lesson_for, mlp, normal

from crespr_onnx.errors import AccuracyGateError
from crespr_onnx.training.finetune import (
    FineTuning,
    fine_tune,
    learning_rate_factor,
    mean_loss,
)
from crespr_onnx.training.importer import import_model
from crespr_onnx.training.lesson import Lesson

torch.set_num_threads(1)

SETTINGS = FineTuning(epochs=5, batch_size=16, lr=0.01)


def task(samples: int = 128) -> tuple[ir.Model, Lesson]:
    """A model to train, and data whose class is the largest of three inputs."""
    teacher, x = mlp(), normal(10, samples, 6)
    lesson = lesson_for(teacher, x, x[:, :3].argmax(axis=1))
    student = mlp()
    for name in ("w1", "w2", "w3"):
        value = student.graph.initializers[name]
        value.const_value = ir.Tensor(0.3 * normal(20, *array(student, name).shape), name=name)
    return student, lesson


def trained(settings: FineTuning, lesson: Lesson, model: ir.Model) -> dict[str, bytes]:
    imported = import_model(model)
    fine_tune(imported.module, lesson, settings)
    return {n: imported.tensor(n).detach().numpy().tobytes() for n in imported.bindings}


def test_the_loss_falls_on_a_task_that_can_be_learned() -> None:
    model, lesson = task()
    imported = import_model(model)
    before = mean_loss(imported.module, lesson)
    fine_tune(imported.module, lesson, replace(SETTINGS, epochs=30))
    after = mean_loss(imported.module, lesson)
    assert after < 0.5 * before


def test_the_same_seed_gives_the_same_weights_to_the_last_bit() -> None:
    model, lesson = task()
    first = trained(SETTINGS, lesson, model)
    np.random.default_rng().random()
    torch.rand(3)  # whatever else drew random numbers before
    assert trained(SETTINGS, lesson, model) == first
    other = trained(replace(SETTINGS, seed=1), lesson, model)
    assert all(other[name] != first[name] for name in first)


def test_training_that_diverges_ends_at_once() -> None:
    model, lesson = task()
    steps: list[float] = []
    message = r"^training diverged: the loss is (nan|inf) in step \d+ of 40; lower --lr$"
    with pytest.raises(AccuracyGateError, match=message):
        fine_tune(
            import_model(model).module,
            lesson,
            replace(SETTINGS, lr=1e30),
            before_step=steps.append,
        )
    assert 0 < len(steps) < 40


def test_no_epochs_change_nothing() -> None:
    model, lesson = task()
    untouched = trained(replace(SETTINGS, epochs=0), lesson, model)
    assert {n: array(model, n).tobytes() for n in ("w2", "b1")}.items() <= untouched.items()


def test_learning_rate_factor() -> None:
    # A tenth of warm-up, then half a cosine.
    assert learning_rate_factor(0.0) == pytest.approx(0.01)
    assert learning_rate_factor(0.05) == pytest.approx(0.5)
    assert learning_rate_factor(0.1) == pytest.approx(1.0)
    assert learning_rate_factor(0.325) == pytest.approx(0.5 * (1 + np.sqrt(0.5)))
    assert learning_rate_factor(0.55) == pytest.approx(0.5)
    assert learning_rate_factor(1.0) == pytest.approx(0.0, abs=1e-12)
    values = [learning_rate_factor(p) for p in np.linspace(0.1, 1, 50)]
    assert values == sorted(values, reverse=True)


def test_steps_are_told_their_progress_and_loss() -> None:
    model, lesson = task(40)
    before, after = [], []
    fine_tune(
        import_model(model).module,
        lesson,
        replace(SETTINGS, epochs=3),
        before_step=before.append,
        after_step=lambda progress, loss: after.append((progress, loss)),
    )
    # 40 samples make two full batches of 16.
    assert before == pytest.approx([0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6])
    assert [p for p, _ in after] == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1])
    assert all(np.isfinite(loss) and loss > 0 for _, loss in after)


def test_the_loss_that_is_told_is_that_of_the_step() -> None:
    model, lesson = task(16)
    imported, told = import_model(model), []
    imported.module.train()
    whole = lesson.batch(np.arange(16))
    expected = lesson.objective.loss(imported.module(*whole.inputs), whole).item()
    fine_tune(
        imported.module, lesson, replace(SETTINGS, epochs=1), after_step=lambda _, x: told.append(x)
    )
    assert told == pytest.approx([expected], rel=1e-5)


def test_weights_decay_but_biases_do_not() -> None:
    model, lesson = task(16)
    results = {}
    for decay in (0.0, 1.0):
        settings = FineTuning(epochs=1, batch_size=16, lr=0.1, weight_decay=decay)
        imported = import_model(model)
        fine_tune(imported.module, lesson, settings)
        results[decay] = {n: imported.tensor(n).detach().numpy() for n in imported.bindings}
    rate = 0.1 * learning_rate_factor(0.0)
    for name in ("w1", "w2", "w3"):
        start = import_model(model).tensor(name).detach().numpy()
        expected = results[0.0][name] - rate * start
        np.testing.assert_allclose(results[1.0][name], expected, rtol=1e-5, atol=1e-7)
    for name in ("b1", "b2", "b3"):
        np.testing.assert_array_equal(results[1.0][name], results[0.0][name])


def test_every_epoch_sees_full_batches_of_different_samples() -> None:
    _, lesson = task(40)
    epochs = [
        [b.inputs[0] for b in lesson.shuffled(16, np.random.default_rng(seed))] for seed in (0, 1)
    ]
    for batches in epochs:
        assert [len(b) for b in batches] == [16, 16]
        assert len({row.numpy().tobytes() for b in batches for row in b}) == 32
    assert not torch.equal(epochs[0][0], epochs[1][0])


def test_fewer_samples_than_a_batch_are_one_batch() -> None:
    _, lesson = task(10)
    assert lesson.steps(16) == 1
    (only,) = lesson.shuffled(16, np.random.default_rng(0))
    assert len(only.inputs[0]) == 10


def test_mean_loss_weighs_an_unfinished_batch_by_its_samples() -> None:
    model, lesson = task(20)
    imported = import_model(model)
    whole = mean_loss(imported.module, lesson, batch_size=20)
    assert mean_loss(imported.module, lesson, batch_size=8) == pytest.approx(whole, rel=1e-6)


def test_calibration_batches_are_spread_over_the_samples() -> None:
    _, lesson = task(100)
    batches = lesson.calibration(10, 4)
    assert [len(b.inputs[0]) for b in batches] == [10] * 4
    x = lesson.samples.inputs["x"]
    for b, start in zip(batches, (0, 30, 60, 90), strict=True):
        np.testing.assert_array_equal(b.inputs[0].numpy(), x[start : start + 10])
    assert len(lesson.calibration(64, 16)) == 1
    assert len(lesson.calibration(1000, 16)[0].inputs[0]) == 100


def test_a_part_of_a_lesson_keeps_samples_targets_and_labels_together() -> None:
    _, lesson = task(30)
    chosen = np.array([3, 17, 29])
    part, whole = lesson.part(chosen).batch(np.arange(3)), lesson.batch(chosen)
    for a, b in ((part.inputs[0], whole.inputs[0]), (part.targets[0], whole.targets[0])):
        assert torch.equal(a, b)
    assert part.labels is not None
    assert whole.labels is not None
    assert torch.equal(part.labels, whole.labels)
