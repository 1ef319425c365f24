"""Checkpoints: training that goes on from one ends where it would have ended anyway."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from training_models import (
    channels,
    cnn,
    importances,
    lesson_for,
    mlp,
    normal,
    parse,
)

from crespr_onnx.errors import UsageError
from crespr_onnx.layout_json import layout_to_json, selections_to_json
from crespr_onnx.training.allocate import allocate
from crespr_onnx.training.checkpoint import Checkpoint
from crespr_onnx.training.cluster import cluster
from crespr_onnx.training.criteria.criterion import weight_energy
from crespr_onnx.training.finetune import FineTuning, fine_tune
from crespr_onnx.training.importer import ImportedModel, import_model
from crespr_onnx.training.lesson import Lesson
from crespr_onnx.training.restrict import Restriction

torch.set_num_threads(1)

SETTINGS = FineTuning(epochs=4, batch_size=8, lr=0.01)


class StopError(Exception):
    """What ends a run in the middle."""


def shared() -> tuple[ImportedModel, Lesson]:
    text = """g (float[N, 6] x) => (float[N, 6] y) {
        h = Gemm (x, w)
        r = Relu (h)
        y = Gemm (r, w)
    }"""
    model = parse(text, w=normal(0, 6, 6))
    return import_model(model), lesson_for(model, normal(9, 24, 6))


def make(kind: str) -> tuple[ImportedModel, Lesson]:
    if kind == "shared":
        return shared()
    model = {"mlp": mlp, "cnn": cnn}[kind]()
    shape = (24, 6) if kind == "mlp" else (24, 1, 6, 6)
    return import_model(model), lesson_for(model, normal(9, *shape), np.arange(24) % 3)


def weights(imported: ImportedModel) -> dict[str, bytes]:
    state = imported.module.state_dict().items()
    return {name: t.contiguous().numpy().tobytes() for name, t in state}


@pytest.mark.parametrize("kind", ["mlp", "cnn", "shared"])
@pytest.mark.parametrize("stop_at", [0.1, 0.3, 0.55, 0.9])
def test_an_interrupted_training_ends_the_same(kind: str, stop_at: float, tmp_path: Path) -> None:
    whole, lesson = make(kind)
    start = weights(whole)
    fine_tune(whole.module, lesson, SETTINGS)

    def stop(progress: float) -> None:
        if progress >= stop_at:
            raise StopError

    checkpoint = Checkpoint(tmp_path / "c.safetensors")
    with pytest.raises(StopError):
        fine_tune(make(kind)[0].module, lesson, SETTINGS, before_step=stop, checkpoint=checkpoint)
    assert checkpoint.path.exists() == (stop_at >= 0.25)
    seen: list[float] = []
    resumed = make(kind)[0]
    fine_tune(resumed.module, lesson, SETTINGS, before_step=seen.append, checkpoint=checkpoint)
    assert seen[0] == int(stop_at * 4) / 4, "finished epochs are not repeated"
    assert weights(resumed) == weights(whole)
    assert weights(resumed) != start


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
@pytest.mark.parametrize("stop_at", [0.3, 0.6, 0.9])
def test_an_interrupted_restriction_ends_the_same(
    kind: str, stop_at: float, tmp_path: Path
) -> None:
    model = mlp() if kind == "mlp" else cnn((16, 24))
    graph = channels(model)
    allocation = allocate(graph, 2, 0.7)
    layout = cluster(graph, importances(graph, 0), allocation, 0)
    shape = (24, 6) if kind == "mlp" else (24, 1, 6, 6)
    lesson = lesson_for(model, normal(9, *shape), np.arange(24) % 3)

    def train(path: Path | None, stop_at: float) -> tuple[dict[str, bytes], str, str]:
        imported = import_model(model)
        restriction = Restriction(imported, graph, layout, allocation)

        def before_step(progress: float) -> None:
            if progress >= stop_at:
                raise StopError
            if restriction.due(progress):
                written = model.clone(deep_copy=True)
                imported.write_back(written)
                scores = weight_energy(written, graph)
                restriction.cut(progress, restriction.next_layout(progress, scores))
            restriction.hold()

        checkpoint = None if path is None else Checkpoint(path, restriction)
        fine_tune(imported.module, lesson, SETTINGS, before_step=before_step, checkpoint=checkpoint)
        restriction.hold()
        found = restriction.layout
        stored = (1 - found.physical_ratio(graph)) * graph.weights
        assert round(stored) == allocation.weights
        return weights(imported), layout_to_json(graph, found), selections_to_json(found)

    expected = train(None, 2.0)
    path = tmp_path / "c.safetensors"
    with pytest.raises(StopError):
        train(path, stop_at)
    assert train(path, 2.0) == expected
    assert expected[1:] != (layout_to_json(graph, layout), selections_to_json(layout))


def test_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    imported, lesson = make("mlp")
    checkpoint = Checkpoint(tmp_path / "c.safetensors")
    fine_tune(imported.module, lesson, SETTINGS, checkpoint=checkpoint)
    again, seen = make("mlp")[0], []
    fine_tune(again.module, lesson, SETTINGS, before_step=seen.append, checkpoint=checkpoint)
    assert seen == []
    assert weights(again) == weights(imported)


def test_without_a_file_training_starts_at_the_beginning(tmp_path: Path) -> None:
    imported, _ = make("mlp")
    before = weights(imported)
    optimizer = torch.optim.AdamW(imported.module.parameters())
    assert Checkpoint(tmp_path / "none").load(imported.module, optimizer) == 0
    assert weights(imported) == before


def saved(path: Path) -> Checkpoint:
    checkpoint = Checkpoint(path)
    imported, lesson = make("mlp")
    fine_tune(imported.module, lesson, replace(SETTINGS, epochs=1), checkpoint=checkpoint)
    return checkpoint


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "header"])
def test_a_damaged_file_is_named(tmp_path: Path, damage: str) -> None:
    checkpoint = saved(tmp_path / "tune.safetensors")
    data = checkpoint.path.read_bytes()
    damaged = {"empty": b"", "cut": data[:-40], "text": b"no tensors\n" * 9,
               "header": b"\xff" * 8 + data[8:]}  # fmt: skip
    checkpoint.path.write_bytes(damaged[damage])
    imported, lesson = make("mlp")
    message = (
        r"^.*/tune\.safetensors: is damaged or of another run \(.+\); start over with --force$"
    )
    with pytest.raises(UsageError, match=message):
        fine_tune(imported.module, lesson, SETTINGS, checkpoint=checkpoint)


def test_a_checkpoint_of_another_model_is_named(tmp_path: Path) -> None:
    checkpoint = saved(tmp_path / "tune.safetensors")
    imported, lesson = make("cnn")
    with pytest.raises(UsageError, match=r"^.*: is damaged or of another run \(.+\); start over"):
        fine_tune(imported.module, lesson, SETTINGS, checkpoint=checkpoint)


def test_a_checkpoint_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "gone" / "c.safetensors"
    imported, lesson = make("mlp")
    with pytest.raises(UsageError, match="cannot be written"):
        fine_tune(imported.module, lesson, SETTINGS, checkpoint=Checkpoint(path))
    saved(tmp_path / "c.safetensors")
    assert [entry.name for entry in tmp_path.iterdir()] == ["c.safetensors"]
