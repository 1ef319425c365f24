"""`crespr-onnx bench`, from the command line to its results."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from bench_folders import fixed_model, results, small_mlp
from pipeline_models import normal, write_data, write_mlp, write_model

from crespr_onnx.commands.bench_results import format_time
from crespr_onnx.targets import find_target
from crespr_onnx.targets.compile import compile_model

QUICK = ("--batch", "1", "--threads", "1", "--repeats", "3", "--quiet")


def check_rows(document: Any, batches: list[int]) -> None:
    """What must hold of any times."""
    dense = {
        (r["subject"], r["batch"], r["threads"]): r["median_ms"]
        for r in document["rows"]
        if (r["model"], r["engine"]) == ("dense", "onnxruntime")
    }
    assert sorted({r["batch"] for r in document["rows"]}) == batches
    for r in document["rows"]:
        assert 0 < r["q1_ms"] <= r["median_ms"] <= r["q3_ms"]
        assert r["speed_up"] == dense[r["subject"], r["batch"], r["threads"]] / r["median_ms"]
        assert r["above_floor"] == r["median_ms"] / r["floor_ms"] >= 0.999
        assert r["bound_by"] in ("macs", "bytes")


@pytest.mark.slow
def test_artefact_json_plot_and_gate(call: Any, tmp_path: Path) -> None:
    out = results(tmp_path / "out", config={"target": "cpu"})
    compile_model(out / "model.onnx", out, find_target("cpu"), {"x": (1, 8)})
    before = {path: path.read_bytes() for path in out.iterdir()}
    plot, saved = tmp_path / "speed.svg", tmp_path / "speed.json"
    code, text, err = call(
        "bench", str(out), "--batch", "1", "--batch", "2", "--threads", "1", "--threads", "2",
        "--repeats", "3",
        "--plot", str(plot), "-o", str(saved), "--min-speedup", "1000", "--json", "--quiet",
        "--data", write_data(tmp_path / "data.npz"),
    )  # fmt: skip
    document = json.loads(text)
    assert json.loads(saved.read_text()) == document
    assert "<svg" in plot.read_text()
    assert (document["schema"], document["status"], document["exit_code"]) == (1, "failed", 6)
    check_rows(document, [1, 2])
    assert [(r["model"], r["engine"]) for r in document["rows"]] == 4 * [
        ("dense", "onnxruntime"), ("dense", "tvm"),
        ("compressed", "onnxruntime"), ("compressed", "tvm"),
    ]  # fmt: skip
    assert [peak["threads"] for peak in document["peaks"]] == [1, 2]
    assert code == 6
    assert document["notes"] == []
    assert err == f"error: {document['reasons'][0]}\n"
    assert err.endswith(
        "times as fast as dense in ONNX Runtime at batch 1 on one thread; --min-speedup asks for "
        "1000\n"
    )
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_a_table_without_a_terminal(call: Any, tmp_path: Path) -> None:
    out = results(tmp_path / "out")
    code, text, err = call("bench", str(out), *QUICK, "--min-speedup", "0.001")
    assert (code, err) == (0, "")
    assert "\x1b" not in text
    lines = text.splitlines()
    assert lines[:3] == [
        str(out),
        "  dense: 432 MACs, 1.8 kB of weights",
        "  compressed: 60 MACs, 268 B of weights",
    ]
    assert lines[4].split() == [
        "batch", "┃", "threads", "┃", "model", "┃", "engine", "┃", "median", "┃", "quartiles", "┃",
        "than", "dense", "┃", "floor", "┃", "above", "floor",
    ]  # fmt: skip
    assert lines[6].split()[:8] == ["1", "│", "1", "│", "dense", "│", "ONNX", "Runtime"]
    assert lines[7].split()[2:6] == ["compressed", "│", "ONNX", "Runtime"]
    assert lines[7].rstrip().endswith("x")
    assert lines[9].startswith("peak on 1 thread: ")
    assert lines[10] == (
        "1 thread: turns of 20 ms or 3 calls, the engines taking turns in one process; median and "
        "quartiles over turns"
    )


def test_models_and_notes(call: Any, tmp_path: Path) -> None:
    a, b = fixed_model(tmp_path / "two.onnx"), write_mlp(tmp_path)
    code, text, err = call("bench", str(b), str(a), *QUICK, "--batch", "2", "--json")
    assert (code, err) == (0, "")
    document = json.loads(text)
    assert [(r["model"], r["batch"]) for r in document["rows"]] == [("mlp", 2), ("two", 2)]
    assert document["notes"] == ["given models: the batch is fixed to 2; 1 is left out"]
    macs = [model["macs"] for model in document["subjects"][0]["models"]]
    assert macs == [432, 2 * (8 * 16 + 16 * 3)]  # per sample, and of the batch that is fixed
    mlp, two = document["rows"]
    assert mlp["speed_up"] == 1.0
    assert two["speed_up"] == mlp["median_ms"] / two["median_ms"]


def test_an_artefact_that_cannot_be_compiled_is_noted(call: Any, tmp_path: Path) -> None:
    out = results(tmp_path / "out", config={"target": "cpu"})
    lstm = """g (float[N, 8] x) => (float[N, 1, 1, 5] y) {
        one = Constant <value_ints = [1]> ()
        t = Unsqueeze (x, one)
        y = LSTM <hidden_size = 5> (t, w, r)
    }"""
    write_model(out / "model.onnx", lstm, w=normal(1, 1, 20, 8), r=normal(2, 1, 20, 5))
    code, text, err = call("bench", str(out), *QUICK, "--json")
    assert (code, err) == (0, "")
    document = json.loads(text)
    engines = [(r["model"], r["engine"]) for r in document["rows"]]
    assert engines == [("dense", "onnxruntime"), ("dense", "tvm"), ("compressed", "onnxruntime")]
    (note,) = document["notes"]
    assert note.startswith(f"{out}: no artefact of compressed for x [1, 8], 1 thread: ")
    assert "LSTM" in note


def test_a_graph_that_fixes_its_batch_inside(call: Any, tmp_path: Path) -> None:
    text = """g (float[N, 8] x) => (float[N, 3] y) {
        shape = Constant <value_ints = [1, 8]> ()
        t = Reshape (x, shape)
        y = MatMul (t, w)
    }"""
    path = write_model(tmp_path / "m.onnx", text, w=normal(1, 8, 3))
    code, out, err = call("bench", str(path), *QUICK, "--batch", "8", "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert [r["batch"] for r in document["rows"]] == [1]
    (note,) = document["notes"]
    assert note.startswith(
        "given models: batch 8 is left out: ONNX Runtime cannot run the model on inputs x [8, 8]: "
    )
    code, _, err = call("bench", str(path), "--batch", "8", "--threads", "1", "--quiet")
    assert code == 3
    assert err.startswith("error: ONNX Runtime cannot run the model on inputs x [8, 8]: ")


def test_weights_that_are_constant_nodes_count(call: Any, tmp_path: Path) -> None:
    text = """g (float[N, 2] x) => (float[N, 2] y) {
        w = Constant <value = float[2, 2] {1., 2., 3., 4.}> ()
        y = MatMul (x, w)
    }"""
    path = write_model(tmp_path / "m.onnx", text)
    code, out, _ = call("bench", str(path), *QUICK, "--json")
    assert code == 0
    (model,) = json.loads(out)["subjects"][0]["models"]
    assert (model["macs"], model["weight_bytes"]) == (4, 16)


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0.00097, "0.97 us"),
        (0.0123, "12.3 us"),
        (0.1234, "0.123 ms"),
        (12.34, "12.3 ms"),
        (1234.5, "1234 ms"),
    ],
)
def test_times_have_three_digits(milliseconds: float, text: str) -> None:
    assert format_time(milliseconds) == text


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("gone.onnx",), 3, "gone.onnx: no such file; give the path of an .onnx model"),
        (("mlp.onnx", "--batch", "0"), 2, "--batch is 0; it must be at least 1"),
        (("mlp.onnx", "-o", "no/a.json"), 2, "-o no/a.json: there is no folder no; make it first"),
        (
            ("mlp.onnx", "--plot", "a.jpg"),
            2,
            "--plot a.jpg is none of the kinds that can be drawn: .png, .svg, .pdf",
        ),
        (
            ("mlp.onnx", "--plot", "no/a.png"),
            2,
            "--plot no/a.png: there is no folder no; make it first",
        ),
        (
            ("mlp.onnx", "--min-speedup", "2"),
            2,
            "--min-speedup compares models, and there is only mlp.onnx; give what it is compared "
            "with as --dense FILE",
        ),
        (
            ("two.onnx", "mlp.onnx", "--min-speedup", "2", "--batch", "1", "--batch", "2"),
            2,
            "--min-speedup is decided at batch 1, but the batch of given models is fixed to 2",
        ),
        (
            ("mlp.onnx", "--data", "gone.npz"),
            4,
            "gone.npz: no such file or folder; give an .npz file, a folder of class folders, or "
            "module:function. The model takes x: float32[N,8] -> y: float32[N,3]",
        ),
        (
            ("mlp.onnx", "--input-shape", "z:1x2"),
            2,
            "a shape is given for input 'z', which the model does not have; its signature is "
            "x: float32[N,8] -> y: float32[N,3]",
        ),
    ],
)
def test_errors(
    call: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_mlp(tmp_path)
    fixed_model(tmp_path / "two.onnx")
    assert call("bench", *arguments, "--quiet") == (code, "", f"error: {message}\n")


def test_nothing_to_time(call: Any) -> None:
    code, out, err = call("bench")
    assert (code, out) == (2, "")
    assert "Missing argument 'DIR|MODEL...'" in err


def test_an_open_axis_is_asked_for(call: Any, tmp_path: Path) -> None:
    path = str(write_model(tmp_path / "m.onnx", "g (float[N, T] x) => (float[N, T] y) {y=Relu(x)}"))
    code, _, err = call("bench", path, *QUICK)
    assert code == 2
    assert "fix it with --input-shape x:1xN, a number for each N" in err
    code, text, _ = call("bench", path, *QUICK, "--input-shape", "x:1x5", "--json")
    assert code == 0
    (row,) = json.loads(text)["rows"]
    assert (row["floor_ms"], row["bound_by"], row["above_floor"]) == (None, None, None)


def test_plots_need_matplotlib(call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    path = str(small_mlp(tmp_path / "m.onnx"))
    assert call("bench", path, "--plot", str(tmp_path / "a.png"), "--quiet") == (
        2,
        "",
        "error: --plot needs matplotlib, which is not installed: pip install 'crespr-onnx[plot]'\n",
    )
