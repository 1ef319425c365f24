"""Held-out marks, early stopping, and going back to the best epoch."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from training_models import lesson_for, mlp, normal, run

from crespr_onnx.training.checkpoint import Checkpoint
from crespr_onnx.training.finetune import FineTuning, fine_tune
from crespr_onnx.training.importer import import_model
from crespr_onnx.training.lesson import Lesson
from crespr_onnx.training.watch import Marks, Watch, examine

torch.set_num_threads(1)

SETTINGS = FineTuning(epochs=12, batch_size=8, lr=0.05)


def noisy() -> tuple[torch.nn.Module, Lesson, Lesson]:
    """A module that learns random labels by heart, which says nothing about other samples."""
    model, x = mlp(), normal(10, 48, 6)
    lesson = lesson_for(model, x, np.arange(48) % 3, label_weight=1.0)
    return (import_model(model).module, *lesson.hold_out(0.5, 0))


def weights(module: torch.nn.Module) -> dict[str, bytes]:
    return {name: t.contiguous().numpy().tobytes() for name, t in module.state_dict().items()}


def test_marks_are_the_loss_and_the_share_of_right_classes() -> None:
    model, x = mlp(), normal(10, 20, 6)
    labels = np.arange(20) % 3
    lesson, module = lesson_for(model, x, labels), import_model(model).module
    marks = examine(module, lesson, batch_size=8)
    assert marks.accuracy == np.mean(run(model, x).argmax(axis=1) == labels)
    batch = lesson.batch(np.arange(20))
    module.eval()
    expected = lesson.objective.loss(module(*batch.inputs), batch).item()
    assert marks.loss == pytest.approx(expected, rel=1e-5)
    assert str(marks) == f"held-out accuracy {marks.accuracy:.4f}"


def test_without_labels_there_is_a_loss_only() -> None:
    model, x = mlp(), normal(10, 20, 6)
    marks = examine(import_model(model).module, lesson_for(model, x))
    assert marks.accuracy is None
    assert str(marks) == f"held-out loss {marks.loss:.4f}"


def test_held_out_samples_are_not_trained_on() -> None:
    model, x = mlp(), normal(10, 50, 6)
    rest, held = lesson_for(model, x, np.arange(50) % 3).hold_out(0.1, 3)
    assert (len(rest.samples), len(held.samples)) == (45, 5)
    rows = [{row.tobytes() for row in part.samples.inputs["x"]} for part in (rest, held)]
    assert not rows[0] & rows[1]
    assert len(rows[0] | rows[1]) == 50
    again = lesson_for(model, x).hold_out(0.1, 3)[1]
    np.testing.assert_array_equal(again.samples.inputs["x"], held.samples.inputs["x"])
    other = lesson_for(model, x).hold_out(0.1, 4)[1]
    assert (other.samples.inputs["x"] != held.samples.inputs["x"]).any()


def test_each_part_has_a_sample_at_least() -> None:
    for share in (0.001, 0.999):
        parts = lesson_for(mlp(), normal(0, 8, 6)).hold_out(share, 0)
        assert sorted(len(part.samples) for part in parts) == [1, 7]


def test_the_best_weights_come_back() -> None:
    watch, module = Watch(lesson_for(mlp(), normal(0, 8, 6)), patience=2), torch.nn.Linear(1, 1)

    def epoch(loss: float, weight: float) -> bool:
        torch.nn.init.constant_(module.weight, weight)
        watch.note(Marks(loss, None), module)
        return watch.tired

    assert [epoch(1.0, 1), epoch(0.5, 2), epoch(0.6, 3)] == [False, False, False]
    assert epoch(0.5, 4), "as low is not lower"
    watch.restore(module)
    assert module.weight.item() == 2


def test_training_stops_when_nothing_is_gained() -> None:
    module, lesson, exam = noisy()
    watch, epochs = Watch(exam, patience=2), []

    def note(marks: Marks, trained: torch.nn.Module) -> None:
        Watch.note(watch, marks, trained)
        epochs.append((marks.loss, weights(trained)))

    watch.note = note  # type: ignore[method-assign]
    fine_tune(module, lesson, SETTINGS, watch=watch)
    losses = [loss for loss, _ in epochs]
    best = int(np.argmin(losses))
    assert len(losses) == best + 3 < SETTINGS.epochs
    assert weights(module) == epochs[best][1]
    assert examine(module, exam).loss == pytest.approx(min(losses), rel=1e-6)


def test_enough_patience_changes_only_which_epoch_is_kept() -> None:
    module, lesson, exam = noisy()
    plain = noisy()[0]
    fine_tune(plain, lesson, SETTINGS)
    seen: list[dict[str, bytes]] = []
    watch = Watch(exam, patience=100)
    original = watch.restore
    watch.restore = lambda m: (seen.append(weights(m)), original(m))[1]  # type: ignore
    fine_tune(module, lesson, SETTINGS, watch=watch)
    assert seen == [weights(plain)], "examining leaves no trace in the training"
    assert weights(module) != seen[0]


@pytest.mark.parametrize("stop_at", [0.2, 0.4])
def test_an_interrupted_training_ends_the_same(tmp_path: Path, stop_at: float) -> None:
    whole, lesson, exam = noisy()
    fine_tune(whole, lesson, SETTINGS, watch=Watch(exam, 3))

    def stop(progress: float) -> None:
        if progress >= stop_at:
            raise KeyboardInterrupt

    checkpoint, resumed = Checkpoint(tmp_path / "c.safetensors"), noisy()[0]
    with pytest.raises(KeyboardInterrupt):
        fine_tune(
            noisy()[0], lesson, SETTINGS, before_step=stop, checkpoint=checkpoint,
            watch=Watch(exam, 3),
        )  # fmt: skip
    fine_tune(resumed, lesson, SETTINGS, checkpoint=checkpoint, watch=Watch(exam, 3))
    assert weights(resumed) == weights(whole)
    again, steps = noisy()[0], []
    fine_tune(
        again, lesson, SETTINGS, before_step=steps.append, checkpoint=checkpoint,
        watch=Watch(exam, 3),
    )  # fmt: skip
    assert (weights(again), steps) == (weights(whole), []), "a training that has stopped stays so"


def test_bfloat16_is_near_float32_and_leaves_float32_weights() -> None:
    results = {}
    for precision in ("auto", "fp32", "bf16"):
        model = mlp()
        lesson = lesson_for(model, normal(10, 64, 6), np.arange(64) % 3)
        module, losses = import_model(model).module, []
        settings = replace(SETTINGS, epochs=3, lr=0.01, precision=precision)
        fine_tune(module, lesson, settings, after_step=lambda _, loss, to=losses: to.append(loss))
        assert {p.dtype for p in module.parameters()} == {torch.float32}
        results[precision] = losses
    if not torch.cuda.is_available():
        assert results["auto"] == results["fp32"]
    assert results["bf16"] != results["fp32"]
    np.testing.assert_allclose(results["bf16"], results["fp32"], rtol=0.05)
