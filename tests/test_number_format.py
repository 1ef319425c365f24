"""Runs that emit float16 and int8: what is delivered, measured, gated and said about it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from pipeline_models import DIGITS, MLP, compress, normal, stored, tree, write_data, write_model

from crespr_onnx import pipeline
from crespr_onnx.errors import DataError, ModelError, VerificationError
from crespr_onnx.graph.load import load_model
from crespr_onnx.graph.session import run
from crespr_onnx.graph.verify import verify
from crespr_onnx.record import NarrowLayer, NumberFormat, Ratio, Report
from crespr_onnx.report import compare, render_html
from crespr_onnx.settings import CompressSettings
from crespr_onnx.stages.gates import remarks
from crespr_onnx.stages.narrow import scheme_for
from crespr_onnx.stages.narrow_proof import compare as compare_models

X = normal(11, 64, 8)


@pytest.fixture(scope="module", params=["float16", "int8"])
def narrow(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    few_steps_restrict: None,
) -> Any:
    """Folder, report and name of a run that emits narrower numbers."""
    folder = tmp_path_factory.mktemp(request.param)
    return folder, compress(folder, number_format=request.param), request.param


def types(path: Path) -> set[int]:
    """Element types of the stored matrices."""
    return {t.data_type for t in onnx.load(path).graph.initializer if len(t.dims) > 1}


def test_a_run_delivers_both_forms(narrow: Any) -> None:
    folder, report, name = narrow
    assert (report.status, report.exit_code) == ("ok", 0)
    assert {"model.onnx", "model.float32.onnx"} < {*tree(folder / "out")}
    assert types(folder / "out" / "model.float32.onnx") == {onnx.TensorProto.FLOAT}
    # What is added to a stack of products is no weight to the quantiser, but a constant activation.
    int8 = {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}
    wanted = {"float16": {onnx.TensorProto.FLOAT16}, "int8": int8}[name]
    assert types(folder / "out" / "model.onnx") == wanted


def test_interface_and_marks_stay(narrow: Any) -> None:
    folder, _, _ = narrow
    wide, slim = (onnx.load(folder / "out" / f"model{x}.onnx") for x in (".float32", ""))
    ours, theirs = ([*m.graph.input, *m.graph.output] for m in (wide, slim))
    assert [v.SerializeToString() for v in ours] == [v.SerializeToString() for v in theirs]
    assert wide.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    marks = [{p.key: p.value for p in model.metadata_props} for model in (wide, slim)]
    assert marks[0] == marks[1]
    assert marks[0]["user"] == "kept"
    assert float(marks[1]["crespr.ratio"]) >= 0.6


def test_the_report_is_about_the_narrow_model(narrow: Any) -> None:
    folder, report, name = narrow
    found, out = report.number_format, folder / "out"
    assert (found.name, found.calibration_samples) == (name, 86 if name == "int8" else 0)
    assert report.ratio.bytes_after == (out / "model.onnx").stat().st_size
    assert found.bytes_float32 == (out / "model.float32.onnx").stat().st_size
    assert report.ratio.physical >= 0.6
    assert report.ratio.weights_after == sum(layer.weights_after for layer in report.layers)
    assert found.latency_float32_ms > 0
    # A tenth of 96 samples was held out, and that is what was compared on.
    assert (found.cases, report.metric.samples) == (10, 10)
    assert 0 < found.max_rel_diff < (1e-2 if name == "float16" else 0.1)
    assert (found.artefact, found.artefact_reason) == (None, None)
    assert stored(out)["number_format"]["layers"][0]["format"] == name


def test_what_is_delivered_can_be_verified(narrow: Any) -> None:
    """Quantised models are refused as input of `compress`, not of `verify`."""
    folder, _, name = narrow
    paths = [folder / "out" / file for file in ("model.float32.onnx", "model.onnx")]
    x = {"x": 0.1 * X}
    found = verify(*paths, rtol=1.0, inputs=[x])
    assert found.passed
    assert found.max_rel_diff > 0
    if name == "int8":
        with pytest.raises(ModelError, match="is quantised; give the floating-point model"):
            load_model(paths[1])
        assert load_model(paths[1], quantised=True).signature.inputs[0].name == "x"


def test_every_layer_says_in_what_it_is_stored(narrow: Any) -> None:
    _, report, name = narrow
    layers = report.number_format.layers
    assert len(layers) == 3
    assert {layer.format for layer in layers} == {name}
    stacked = "one scale: ONNX Runtime multiplies stacked matrices with no others in int8"
    assert {layer.reason for layer in layers} == {
        "float16": {"weights and activations, inside of the model"},
        "int8": {"a scale per channel", stacked},
    }[name]


def test_int8_is_the_same_from_run_to_run(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    for folder in (first, second):
        folder.mkdir()
        compress(folder, number_format="int8")
    assert (first / "out/model.onnx").read_bytes() == (second / "out/model.onnx").read_bytes()


def test_float32_is_as_it_was(tmp_path: Path) -> None:
    report = compress(tmp_path)
    assert report.number_format is None
    assert "model.float32.onnx" not in tree(tmp_path / "out")


def test_int8_needs_data(tmp_path: Path) -> None:
    wanted = "--number-format int8 needs --data, on which the range of every activation is measured"
    with pytest.raises(DataError, match=wanted):
        compress(tmp_path, data=None, epochs=0, number_format="int8")
    assert not (tmp_path / "out").exists()


def test_float16_needs_none_and_is_compared_on_random_inputs(tmp_path: Path) -> None:
    report = compress(tmp_path, data=None, epochs=0, number_format="float16")
    assert report.exit_code == 0
    found = report.number_format
    assert found is not None
    assert (found.cases, found.metric_float32) == (1, None)


def test_the_accuracy_gate_is_about_the_narrow_model(tmp_path: Path) -> None:
    """One huge sample to calibrate on: all others fall on the same few steps of int8."""
    w3 = normal(6, 3, 16)
    arrays = {
        "w1": normal(1, 8, 16), "b1": np.zeros(16, np.float32), "w2": normal(3, 16, 16),
        "w3": w3 - w3.mean(0), "b3": np.zeros(3, np.float32),
    }  # fmt: skip
    write_model(tmp_path / "mlp.onnx", MLP, **arrays)
    x = normal(7, 96, 8)
    x[0] *= 1e4
    np.savez(tmp_path / "data.npz", x=x)
    settings: dict[str, Any] = {
        "data": str(tmp_path / "data.npz"), "epochs": 0, "ratio": 0.05, "max_drop": 0.2,
        "eval_data": write_data(tmp_path / "eval.npz", seed=8, labels=False),
    }  # fmt: skip
    assert compress(tmp_path, **settings).exit_code == 0
    report = compress(tmp_path, **settings, force=True, number_format="int8")
    assert (report.exit_code, report.status) == (5, "failed")
    assert report.reasons[0].startswith("agreement fell by ")
    assert report.number_format is not None
    assert report.number_format.metric_float32 is not None
    assert report.metric is not None
    assert report.metric.compressed < 0.8 <= report.number_format.metric_float32


def test_a_model_that_is_no_longer_finite_is_refused(tmp_path: Path) -> None:
    text = "g (float[N, 8] x) => (float[N, 8] y) { y = Mul (x, w) }"
    paths = {
        scale: write_model(tmp_path / f"{scale}.onnx", text, w=np.float32([scale]))
        for scale in (1.0, np.inf)
    }
    wide, broken = (load_model(path).model for path in paths.values())
    settings = CompressSettings(Path("m.onnx"), 0.5, number_format="float16")
    with pytest.raises(VerificationError, match="output 'y' of the float16 model has another sha"):
        compare_models(wide, broken, None, settings)


def test_a_tool_that_fails_leaves_the_float32_model_and_a_way_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ModelError("the model cannot be quantised to int8: no")

    with monkeypatch.context() as patch:
        patch.setattr("crespr_onnx.stages.narrow.to_int8", refuse)
        report = compress(tmp_path, number_format="int8")
    assert report.exit_code == 3
    assert report.reasons == (
        "the model cannot be quantised to int8: no; --resume with another --number-format goes on "
        "from here",
    )
    assert "model.onnx" not in tree(tmp_path / "out")
    told: list[str] = []
    again = compress(tmp_path, lambda p: told.append(p.stage), number_format="float32", resume=True)
    assert again.exit_code == 0
    assert "restricting to clusters" not in told
    out = tree(tmp_path / "out")
    assert out["model.onnx"] == out["model.float32.onnx"]


def test_schemes_by_target() -> None:
    schemes = [
        str(scheme_for(name)) for name in ("onnx", "cpu", "arm64:cortex-a72", "armv7", "cuda")
    ]
    assert schemes == [
        "uint8 activations, int8 weights of 7 bits",
        "uint8 activations, int8 weights of 7 bits",
        "int8 activations, int8 weights",
        "int8 activations, int8 weights",
        "symmetric int8 activations, int8 weights",
    ]


FORMAT = NumberFormat(
    "int8", "a tool", 512, 256, 0.1, 0.01, 0.95, 1000, 0.5,
    layers=(NarrowLayer("a", "Conv", "int8", ""), NarrowLayer("b", "Gemm", "float32", "")),
)  # fmt: skip
REPORT = Report("ok", 0, ratio=Ratio(0.9, 0.9, 10, 1, 10, 1, 4000, 900), number_format=FORMAT)


def test_remarks() -> None:
    assert remarks(REPORT) == ["1 of 2 layers stayed in float32"]
    assert REPORT.ratio is not None
    large = replace(REPORT, ratio=replace(REPORT.ratio, bytes_after=1500))
    assert remarks(large)[0] == (
        "the int8 model takes 1.50 times the bytes of its float32 form: what the format adds "
        "outweighs what the weights save"
    )
    artefact = replace(FORMAT, artefact="float32", artefact_reason="from the int8 model it fails")
    assert remarks(replace(REPORT, number_format=artefact))[0] == (
        "the compiled artefact computes in float32: from the int8 model it fails"
    )


def test_table_and_page_show_the_format() -> None:
    (line,) = (c for c in compare(REPORT) if c.name == "number format")
    assert (line.before, line.after, line.worse) == ("float32", "int8", False)
    page = " ".join(render_html(REPORT).split())
    assert "<h2>Number format</h2> <p>int8, by a tool, on 512 samples." in page
    assert '<td>model file</td><td class="n">1.0 kB</td><td class="n">900 B</td>' in page


@pytest.mark.slow
def test_the_artefact_is_compiled_from_the_form_that_pays(tmp_path: Path) -> None:
    report = compress(tmp_path, number_format="float16", target="cpu")
    assert report.exit_code == 0
    found = report.number_format
    assert found is not None
    assert found.artefact in ("float16", "float32")
    assert found.artefact_reason is not None
    assert found.artefact_reason.startswith("from the float16 model it takes ")
    assert not [name for name in tree(tmp_path / "out") if name.startswith(".build-")]


@pytest.mark.slow
def test_int8_of_the_compressed_digits_loses_less_than_a_point(tmp_path: Path) -> None:
    settings = CompressSettings(
        DIGITS / "digits.onnx", 0.9, data=str(DIGITS / "train.npz"), clusters=4, threads=1,
        eval_data=str(DIGITS / "eval.npz"), epochs=10, batch_size=32, output=tmp_path / "out",
        number_format="int8", min_speedup=0.0,
    )  # fmt: skip
    report = pipeline.compress(settings)
    assert report.exit_code == 0
    assert report.metric is not None
    assert report.number_format is not None
    assert report.number_format.metric_float32 is not None
    assert report.number_format.metric_float32 - report.metric.compressed < 0.01
    with np.load(DIGITS / "eval.npz") as data:
        scores = run(tmp_path / "out" / "model.onnx", {"input": data["input"]})["logits"]
        assert float((scores.argmax(1) == data["labels"]).mean()) == report.metric.compressed
