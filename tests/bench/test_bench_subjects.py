"""What is compared with what, and what cannot be."""

from pathlib import Path
from typing import Any

import pytest
from bench_folders import fixed_model, results, small_mlp
from pipeline_models import HARDMAX, normal, write_data, write_mlp, write_model

from crespr_onnx.bench.inputs import make_inputs, sizes_to_time
from crespr_onnx.bench.settings import BenchSettings
from crespr_onnx.bench.subjects import Subject, read_subjects
from crespr_onnx.errors import ModelError, UsageError


def subjects(*paths: Path, **settings: Any) -> list[Subject]:
    return read_subjects(BenchSettings(paths, **settings))


def names(subject: Subject) -> list[str]:
    return [contestant.name for contestant in subject.contestants]


def test_a_folder_brings_its_dense_model(tmp_path: Path) -> None:
    out = results(tmp_path / "out", config={"target": "onnx", "input_shape": {"x": [1, 8]}})
    (found,) = subjects(out)
    assert (found.name, names(found)) == (str(out), ["dense", "compressed"])
    assert found.contestants[0].loaded.path == tmp_path / "mlp.onnx"
    assert found.contestants[1].loaded.path == out / "model.onnx"
    assert found.input_shapes == {"x": (1, 8)}
    assert (found.target, found.notes) == (None, ())


def test_the_artefact_of_this_machine_is_timed(tmp_path: Path) -> None:
    out = results(tmp_path / "out", config={"target": "cpu"})
    (found,) = subjects(out)
    assert found.folder == out
    assert found.target is not None
    assert found.target.name == "cpu"


@pytest.mark.parametrize("target", ["arm64:cortex-a72", "abacus"])
def test_another_machines_artefact_is_not_timed_and_that_is_said(
    tmp_path: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    out = results(tmp_path / "out", config={"target": target})
    (found,) = subjects(out)
    assert found.target is None
    (note,) = found.notes
    assert note.startswith(
        f"{out}: its artefact is for arm64:cortex-a72 and cannot be timed on this machine"
        if target != "abacus"
        else f"{out}: no artefact is timed: unknown target 'abacus'; known targets: "
    )


def test_models_are_one_subject_the_first_is_the_reference(tmp_path: Path) -> None:
    a, b = write_mlp(tmp_path), small_mlp(tmp_path / "small.onnx")
    (found,) = subjects(a, b)
    assert (found.name, names(found)) == ("given models", ["mlp", "small"])
    (found,) = subjects(b, dense=a)
    assert names(found) == ["dense", "small"]


def test_models_of_the_same_name_are_called_by_their_paths(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    a, b = write_mlp(tmp_path), write_mlp(tmp_path / "other")
    assert names(subjects(a, b)[0]) == [str(a), str(b)]


def test_folders_and_models_together(tmp_path: Path) -> None:
    out = results(tmp_path / "out")
    found = subjects(tmp_path / "mlp.onnx", out)
    assert [s.name for s in found] == [str(out), "given models"]


def test_a_dense_model_of_ones_own(tmp_path: Path) -> None:
    out = results(tmp_path / "out")
    other = small_mlp(tmp_path / "small.onnx")
    (tmp_path / "mlp.onnx").rename(tmp_path / "moved.onnx")
    (found,) = subjects(out, dense=tmp_path / "moved.onnx")
    assert found.notes == ()
    (found,) = subjects(out, dense=other)
    (note,) = found.notes
    assert note.startswith(f"{out}: {other} is not the model that it was compressed from (sha256 ")


def test_a_dense_model_that_is_gone(tmp_path: Path) -> None:
    out = results(tmp_path / "out")
    (tmp_path / "mlp.onnx").unlink()
    with pytest.raises(ModelError) as caught:
        subjects(out)
    assert str(caught.value) == (
        f"{out}: its dense model {tmp_path / 'mlp.onnx'} is not there; say where it is with "
        "--dense FILE"
    )


def test_a_dense_model_that_has_changed(tmp_path: Path) -> None:
    out = results(tmp_path / "out")
    small_mlp(tmp_path / "mlp.onnx")
    message = r"has changed since it was compressed \(sha256 \w{12}, was \w{12}\); give .* --dense"
    with pytest.raises(ModelError, match=message):
        subjects(out)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input": None}, "not that of a run that got to its end: it has no input; compress again"),
        ({"config": []}, "it has no config; compress again with --force, or give the models"),
        ({"config": {}}, r"its input or config is damaged \('target'\)"),
        ({"input": {"path": 3, "sha256": ""}}, r"its input or config is damaged \(3 is not text\)"),
        ({"config": {"target": "onnx", "input_shape": {"x": "?"}}}, "is damaged"),
    ],
)
def test_a_damaged_report(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        subjects(results(tmp_path / "out", **changes))


def test_a_folder_that_is_none_of_results(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"report\.json cannot be read: No such file or directory"):
        subjects(tmp_path)
    (tmp_path / "report.json").write_text("{")
    with pytest.raises(UsageError, match=r"report.json is not that .*: it is not JSON; compress"):
        subjects(tmp_path)


def test_a_run_that_failed_early(tmp_path: Path) -> None:
    out = results(tmp_path / "out", reasons=["labels are out of range"])
    (out / "model.onnx").unlink()
    with pytest.raises(UsageError) as caught:
        subjects(out)
    assert str(caught.value) == (
        f"{out}: holds no model.onnx: the run did not get that far (labels are out of range)"
    )


def test_models_with_other_inputs(tmp_path: Path) -> None:
    a = write_mlp(tmp_path)
    b = write_model(
        tmp_path / "b.onnx", HARDMAX.replace("8]", "9]"), w1=normal(1, 9, 16), w2=normal(2, 16, 3)
    )
    with pytest.raises(UsageError) as caught:
        subjects(a, b)
    assert str(caught.value) == (
        f"{b} takes x: float32[N,9], but {a} takes x: float32[N,8]; only models with the same "
        "inputs can be compared: bench them apart"
    )


def test_the_same_thing_twice(tmp_path: Path) -> None:
    a = write_mlp(tmp_path)
    with pytest.raises(UsageError, match=r"mlp\.onnx is given twice; give it once"):
        subjects(a, a)
    out = results(tmp_path / "out")
    with pytest.raises(UsageError, match="out is given twice; give it once"):
        subjects(out, out)


def test_what_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("hello")
    with pytest.raises(ModelError, match=r"text\.txt: is not an ONNX model; give an \.onnx file"):
        subjects(tmp_path / "text.txt")
    with pytest.raises(ModelError, match=r"gone\.onnx: no such file; give the path of an \.onnx"):
        subjects(tmp_path / "gone.onnx")


def test_a_model_for_one_batch_size(tmp_path: Path) -> None:
    (found,) = subjects(fixed_model(tmp_path / "two.onnx"), write_mlp(tmp_path))
    notes: list[str] = []
    settings = BenchSettings((), batches=(1, 2))
    assert sizes_to_time(found, settings, notes) == (2,)
    assert notes == ["given models: the batch is fixed to 2; 1 is left out"]
    with pytest.raises(UsageError) as caught:
        sizes_to_time(found, BenchSettings(()), notes)
    assert str(caught.value) == "given models: the batch is fixed to 2; add --batch 2"
    assert make_inputs(found, 2, None)["x"].shape == (2, 8)


def test_models_for_different_batch_sizes(tmp_path: Path) -> None:
    a = fixed_model(tmp_path / "two.onnx")
    text = "g (float[3, 8] x) => (float[3, 8] y) { y = Relu (x) }"
    b = write_model(tmp_path / "three.onnx", text)
    with pytest.raises(UsageError, match=r"three.onnx takes x: float32\[3,8\], but .*two.onnx"):
        subjects(a, b)


def test_few_samples_fill_a_batch(tmp_path: Path) -> None:
    (found,) = subjects(write_mlp(tmp_path))
    data = write_data(tmp_path / "d.npz", samples=3)
    x = make_inputs(found, 7, data)["x"]
    assert x.shape == (7, 8)
    assert (x[3:6] == x[:3]).all()
    assert (x[6] == x[0]).all()
