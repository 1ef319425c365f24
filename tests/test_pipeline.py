"""Whole runs on a small model: what they deliver, and that the report says the truth about it."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from pipeline_models import (
    DIGITS,
    compress,
    normal,
    stored,
    tree,
    write_data,
    write_mlp,
    write_model,
)

from crespr_onnx import pipeline
from crespr_onnx.progress import Progress
from crespr_onnx.record import Report
from crespr_onnx.settings import CompressSettings

NUMBER, TEXT = (int, float), str
RATIO = {
    "requested": NUMBER, "physical": NUMBER, "weights_before": int, "weights_after": int,
    "macs_before": int, "macs_after": int, "bytes_before": int, "bytes_after": int,
    "mac_requested": type(None),
}  # fmt: skip
METRIC = {"name": TEXT, "dense": NUMBER, "compressed": NUMBER, "drop": NUMBER, "samples": int}
LATENCY = {
    "batch": int, "threads": int, "dense_onnxruntime": NUMBER, "compressed_onnxruntime": NUMBER,
    "compressed_tvm": (int, float, type(None)), "method": TEXT, "remote": type(None),
}  # fmt: skip
VERIFY = {
    "cases": int, "max_abs_diff": NUMBER, "max_rel_diff": NUMBER, "tolerance": NUMBER,
    "passed": bool,
}  # fmt: skip
LAYER = {
    "name": TEXT, "op": TEXT, "weights_before": int, "weights_after": int, "clusters": int,
    "form": TEXT, "reason": TEXT,
}  # fmt: skip
FILE = {"path": TEXT, "sha256": TEXT, "bytes": int}
SECTIONS = {
    "input": FILE, "output": FILE, "ratio": RATIO, "metric": METRIC, "latency_ms": LATENCY,
    "verify": VERIFY,
}  # fmt: skip
TOP = {
    "schema": int, "status": TEXT, "exit_code": int, "reasons": list, "command": TEXT,
    "config": dict, "seed": int, "versions": dict, "host": dict, "timings_s": dict,
    "tuning": type(None), "layers": list,
}  # fmt: skip
DELIVERED = {"config.toml", "model.onnx", "modules.json", "report.html", "report.json"}


def check_keys(section: dict[str, Any], schema: dict[str, Any]) -> None:
    assert list(section) == list(schema)
    for key, kind in schema.items():
        assert isinstance(section[key], kind), key


def weights_in(path: Path) -> int:
    """Elements of all matrices and kernels of a model whose layers have one each."""
    graph = onnx.load(path).graph
    used = {n.input[1] for n in graph.node if n.op_type in ("Conv", "Gemm", "MatMul")}
    return sum(int(np.prod(t.dims)) for t in graph.initializer if t.name in used)


def answers(path: Path, feeds: dict[str, np.ndarray]) -> np.ndarray:
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    """A run with labelled data; results in out/."""
    folder = tmp_path_factory.mktemp("labelled")
    return folder, compress(folder)


def test_a_run_delivers_its_files_and_nothing_else(labelled: tuple[Path, Report]) -> None:
    folder, report = labelled
    assert (report.status, report.exit_code, report.reasons) == ("ok", 0, ())
    assert {*tree(folder / "out")} == DELIVERED
    assert {p.name for p in folder.iterdir()} == {"mlp.onnx", "data.npz", "out"}


def test_the_report_follows_the_schema(labelled: tuple[Path, Report]) -> None:
    folder, report = labelled
    found = stored(folder / "out")
    assert found == json.loads(json.dumps(report.to_dict()))
    check_keys(
        {k: v for k, v in found.items() if k not in {*SECTIONS, "artefact", "number_format"}}, TOP
    )
    for name, schema in SECTIONS.items():
        check_keys(found[name], schema)
    for layer in found["layers"]:
        check_keys(layer, LAYER)
    assert (found["schema"], found["seed"], found["command"]) == (1, 0, "the command")
    assert found["artefact"] is None
    assert found["config"]["ratio"] == 0.6
    assert found["timings_s"]["total"] >= max(found["timings_s"].values())


def test_the_report_says_what_lies_in_the_folder(labelled: tuple[Path, Report]) -> None:
    folder, report = labelled
    path, ratio = folder / "out" / "model.onnx", report.ratio
    assert ratio is not None
    assert (ratio.weights_before, ratio.weights_after) == (432, weights_in(path))
    assert ratio.physical == pytest.approx(1 - weights_in(path) / 432)
    assert 0.6 <= ratio.physical < 0.7
    assert ratio.bytes_before == (folder / "mlp.onnx").stat().st_size
    assert ratio.bytes_after == path.stat().st_size
    assert sum(layer.weights_after for layer in report.layers) == ratio.weights_after
    assert sum(layer.weights_before for layer in report.layers) == 432
    # A matrix product per sample does as many multiplications as it has weights.
    assert (ratio.macs_before, ratio.macs_after) == (432, ratio.weights_after)
    for record, file in ((report.input, folder / "mlp.onnx"), (report.output, path)):
        assert record is not None
        data = file.read_bytes()
        assert (record.path, record.bytes) == (str(file), len(data))
        assert record.sha256 == hashlib.sha256(data).hexdigest()


def test_the_model_keeps_its_interface_and_is_marked(labelled: tuple[Path, Report]) -> None:
    folder, report = labelled
    before, after = (onnx.load(folder / p) for p in ("mlp.onnx", "out/model.onnx"))
    onnx.checker.check_model(after, full_check=True)
    assert list(after.graph.input) == list(before.graph.input)
    assert list(after.graph.output) == list(before.graph.output)
    assert list(after.opset_import) == list(before.opset_import)
    marks = {p.key: p.value for p in after.metadata_props}
    assert marks["user"] == "kept"
    assert report.input is not None
    assert marks["crespr.source_sha256"] == report.input.sha256
    assert (marks["crespr.schema"], marks["crespr.seed"]) == ("1", "0")
    assert report.ratio is not None
    assert float(marks["crespr.ratio"]) == pytest.approx(report.ratio.physical, abs=1e-6)
    layout = json.loads(marks["crespr.layout"])
    assert {entry["clusters"] for entry in layout.values()} == {2}
    modules = json.loads((folder / "out" / "modules.json").read_text())
    assert [m["module"] for m in modules["modules"]] == [0, 1]
    for name, entry in layout.items():
        sizes = [len(m["channels"][name]) for m in modules["modules"]]
        assert sizes == entry["sizes"]
        assert sum(sizes) + len(modules["dropped"].get(name, [])) == len(entry["labels"])
    for layer in report.layers:
        found = [m["reads"].get(layer.name) for m in modules["modules"]]
        if layer.clusters > 1:
            assert {f"each reads {len(r)} of " in layer.reason for r in found} == {True}


def test_accuracy_is_that_of_the_files(labelled: tuple[Path, Report]) -> None:
    folder, _ = labelled
    evaluation = write_data(folder / "eval.npz", samples=50, seed=8)
    report = compress(folder, eval_data=evaluation, output=folder / "evaluated", epochs=2)
    with np.load(evaluation) as arrays:
        x, labels = arrays["x"], arrays["labels"]
    dense, small = (
        float(np.mean(answers(folder / p, {"x": x}).argmax(axis=1) == labels))
        for p in ("mlp.onnx", "evaluated/model.onnx")
    )
    metric = report.metric
    assert metric is not None
    assert (metric.name, metric.samples) == ("accuracy", 50)
    assert (metric.dense, metric.compressed) == pytest.approx((dense, small))
    assert metric.drop == pytest.approx(dense - small)


def test_the_same_seed_gives_the_same_bytes(labelled: tuple[Path, Report]) -> None:
    folder, _ = labelled
    again = compress(folder, output=folder / "again")
    other = compress(folder, output=folder / "other", seed=1)
    assert (again.exit_code, other.exit_code) == (0, 0)
    first, same, different = (
        (folder / name / "model.onnx").read_bytes() for name in ("out", "again", "other")
    )
    assert same == first
    assert different != first


def test_without_labels_agreement_with_the_dense_model_is_measured(tmp_path: Path) -> None:
    data = write_data(tmp_path / "d.npz", labels=False)
    report = compress(tmp_path, data=data)
    metric = report.metric
    assert report.exit_code == 0
    assert metric is not None
    # A tenth of the data was held out of training.
    assert (metric.name, metric.dense, metric.samples) == ("agreement", 1.0, 10)
    assert metric.drop == pytest.approx(1.0 - metric.compressed)


def test_other_outputs_are_measured_by_explained_variance(tmp_path: Path) -> None:
    text = """g (float[N, 8] x) => (float[N, 1] y) {
        h = MatMul (x, w1)
        r = Relu (h)
        y = MatMul (r, w2)
    }"""
    model = write_model(tmp_path / "m.onnx", text, w1=normal(0, 8, 16), w2=normal(1, 16, 1))
    np.savez(tmp_path / "d.npz", x=normal(2, 200, 8))
    report = compress(
        tmp_path, model=model, data=str(tmp_path / "d.npz"), epochs=40, ratio=0.4, clusters=None
    )
    assert report.metric is not None
    assert (report.metric.name, report.metric.dense) == ("explained variance", 1.0)
    assert 0.5 < report.metric.compressed <= 1.0


def test_one_shot_without_data(tmp_path: Path) -> None:
    report = compress(tmp_path, data=None, epochs=0)
    assert (report.exit_code, report.metric) == (0, None)
    assert report.ratio is not None
    assert report.ratio.physical >= 0.6
    assert "tune" in report.timings_s
    assert {*tree(tmp_path / "out")} == DELIVERED


def test_one_shot_with_data_is_measured_but_not_trained(tmp_path: Path) -> None:
    report = compress(tmp_path, epochs=0, clusters=1)
    assert report.exit_code == 0
    assert report.metric is not None
    before, after = (onnx.load(tmp_path / p).graph for p in ("mlp.onnx", "out/model.onnx"))
    kept = {t.name: onnx.numpy_helper.to_array(t) for t in after.initializer}
    (whole,) = [onnx.numpy_helper.to_array(t) for t in before.initializer if t.name == "b1"]
    (bias,) = [a for a in kept.values() if a.ndim == 1 and len(a) != 3]
    assert set(bias.tolist()) <= set(whole.tolist())


@pytest.mark.parametrize(
    ("form", "clusters"), [("grouped", 1), ("grouped", 4), ("separate", 2), ("separate", 4)]
)
def test_forms_and_clusters(tmp_path: Path, form: str, clusters: int) -> None:
    report = compress(
        tmp_path, model=DIGITS / "digits.onnx", data=None, epochs=0, ratio=0.9, clusters=clusters,
        form=form,
    )  # fmt: skip
    assert report.exit_code == 0
    layers = {layer.name: layer for layer in report.layers}
    linear, conv = layers["/linear1/Gemm"], layers["/conv2/Conv"]
    assert (linear.clusters, conv.clusters) == (clusters, clusters)
    named = {"grouped": ("batched", "grouped"), "separate": ("separate", "separate")}[form]
    assert (linear.form, conv.form) == (("dense", "dense") if clusters == 1 else named)
    ops = [n.op_type for n in onnx.load(tmp_path / "out" / "model.onnx").graph.node]
    counts = [layer.clusters if layer.form == "separate" else 1 for layer in report.layers]
    assert ops.count("Conv") == sum(counts[:3])
    assert ops.count("MatMul") + ops.count("Gemm") == sum(counts[3:])
    assert report.verify is not None
    assert report.verify.passed


def test_both_forms_compute_the_same(tmp_path: Path) -> None:
    x = normal(3, 20, 8)
    compress(tmp_path, output=tmp_path / "a", form="grouped")
    compress(tmp_path, output=tmp_path / "b", form="separate")
    a, b = (answers(tmp_path / p / "model.onnx", {"x": x}) for p in "ab")
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("opset", [13, 21])
def test_old_and_new_opsets_can_be_trained(tmp_path: Path, opset: int) -> None:
    report = compress(tmp_path, model=write_mlp(tmp_path, opset))
    assert (report.exit_code, report.reasons) == (0, ())
    assert onnx.load(tmp_path / "out" / "model.onnx").opset_import[0].version == opset


def test_layers_say_why_they_stayed_dense(tmp_path: Path) -> None:
    settings = CompressSettings(DIGITS / "digits.onnx", 0.9, epochs=0, clusters=4)
    reasons = {layer.name: layer.reason for layer in pipeline.plan(settings).layers}
    assert reasons["/conv1/Conv"].startswith("has fewer than 4 inputs: ")
    assert re.fullmatch(r"4 clusters, each reads \d+ of 256 inputs", reasons["/linear1/Gemm"])
    light = CompressSettings(DIGITS / "digits.onnx", 0.001, epochs=0, clusters=1)
    reasons = {layer.name: layer.reason for layer in pipeline.plan(light).layers}
    assert reasons["/linear2/Gemm"] == "reads all inputs that are kept: stays as it is"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("least", "shrinks"), [(1, "restricting to clusters"), (300, "re-fitting the kept weights")]
)
def test_the_listener_is_told_stages_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, least: int, shrinks: str
) -> None:
    monkeypatch.setattr("crespr_onnx.stages.train.LEAST_STEPS", least)
    told: list[Progress] = []
    compress(tmp_path, told.append, clusters=None, epochs=20)
    stages = list(dict.fromkeys(p.stage for p in told))
    assert stages == [
        "reading model and data", "asking the dense model", "clustering channels",
        "trying cluster counts", shrinks, "splitting clusters",
        "fine-tuning the small model", "verifying", "measuring", "timing",
    ]  # fmt: skip
    assert all(p.done is None or 0 <= p.done <= 1 for p in told)


def test_auto_takes_the_same_clusters_every_time(tmp_path: Path) -> None:
    reports = [
        compress(tmp_path, clusters=None, epochs=20, output=tmp_path / name) for name in "ab"
    ]
    assert reports[0].layers == reports[1].layers
    assert (tmp_path / "a/model.onnx").read_bytes() == (tmp_path / "b/model.onnx").read_bytes()


def test_training_lowers_what_pruning_costs(tmp_path: Path) -> None:
    data = write_data(tmp_path / "d.npz", samples=500, labels=False)
    drops = []
    for given, epochs in ((None, 0), (data, 20)):
        report = compress(
            tmp_path, data=given, eval_data=data, epochs=epochs, ratio=0.85,
            output=tmp_path / str(epochs),
        )  # fmt: skip
        assert report.metric is not None
        drops.append(report.metric.drop)
    assert drops[1] < 0.5 * drops[0]
