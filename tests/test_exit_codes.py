"""Every exit code from 2 to 8, reached by its real cause, and what each leaves behind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pipeline_models import (
    FIXED,
    HARDMAX,
    normal,
    stored,
    tree,
    write_data,
    write_mlp,
    write_model,
)

from crespr_onnx import cli

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def compress(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """`compress` of the MLP in an otherwise empty folder: exit code, stdout, stderr."""
    write_mlp(tmp_path)
    write_data(tmp_path / "data.npz")

    def run(*options: str, model: Path | None = None, **settings: Any) -> tuple[int, str, str]:
        given = {
            "ratio": 0.6, "data": tmp_path / "data.npz", "epochs": 2, "batch-size": 16,
            "threads": 1, "clusters": 2, "max-drop": 1, "min-speedup": 0,
            "output": tmp_path / "out",
        }  # fmt: skip
        given |= {key.replace("_", "-"): value for key, value in settings.items()}
        words = [w for k, v in given.items() if v is not None for w in (f"--{k}", str(v))]
        path = str(model or tmp_path / "mlp.onnx")
        code = cli.run(["compress", path, "--quiet", *words, *options])
        return (code, *capsys.readouterr())

    return run


def one_line(text: str) -> bool:
    return text.startswith("error: ") and text.count("\n") == 1 and text.endswith("\n")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ratio": 1.5}, "--ratio is 1.5; it must be between 0 and 1: 0.98 keeps 2% of the"),
        (
            {"clusters": 17},
            "--clusters 17 is more than this model has room for: no layer can be split into more "
            "than 4; give at most 4, or auto",
        ),
        (
            {"target": "toaster"},
            "unknown target 'toaster'; known targets: arm64, armv7, cpu, cuda, onnx",
        ),
    ],
)
def test_2_usage(compress: Run, tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    before = tree(tmp_path)
    code, out, err = compress(**settings)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {message}")
    assert one_line(err)
    assert tree(tmp_path) == before


def test_2_a_folder_that_is_not_empty(compress: Run, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    before = tree(tmp_path)
    code, out, err = compress(epochs=0)
    assert (code, out) == (2, "")
    assert err == (
        f"error: {tmp_path}/out is not empty; give another folder, --force to replace its results, "
        "or --resume to go on with an interrupted run\n"
    )
    assert tree(tmp_path) == before
    assert compress("--force", epochs=0)[0] == 0
    assert tree(tmp_path)["out/mine.txt"] == b"mine"


NOTHING = "g (float[N, 8] x) => (float[N, 3] y) { y = MatMul (x, w1) }"


def two_layers(folder: Path, text: str, opset: int = 18) -> Path:
    arrays = {"w1": normal(0, 8, 16), "w2": normal(1, 16, 3)}
    if text == NOTHING:
        arrays = {"w1": normal(0, 8, 3)}
    return write_model(folder / "m.onnx", text, opset, **arrays)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            HARDMAX,
            "node 'odd' (Hardmax, opset 18) cannot be trained: it has no PyTorch counterpart; run "
            "with --epochs 0 and without --data, or export without it",
        ),
        (
            FIXED,
            "{path}: input 'x' takes batches of exactly 2; training and evaluation need any size: "
            "export the model with a dynamic first axis",
        ),
        (NOTHING, "{path}: no prunable operator: "),
    ],
)
def test_3_model(compress: Run, tmp_path: Path, text: str, message: str) -> None:
    model = two_layers(tmp_path, text)
    before = tree(tmp_path)
    code, out, err = compress(model=model, clusters=None)
    assert (code, out) == (3, "")
    assert err.startswith(f"error: {message.format(path=model)}")
    assert one_line(err)
    assert tree(tmp_path) == before


def test_3_beyond_what_the_model_allows(compress: Run, tmp_path: Path) -> None:
    before = tree(tmp_path)
    code, _, err = compress(ratio=0.99)
    # One channel in each of two groups, which reads one input: 1 + 1 + 3 of 432 weights.
    assert (code, err) == (
        3,
        "error: --ratio 0.99 is beyond what this model allows: at most 0.9884 of its weights can "
        "go (crespr-onnx inspect shows what stays dense and why)\n",
    )
    assert tree(tmp_path) == before
    assert compress(ratio=0.9884, clusters=1, epochs=0)[0] == 0


def test_3_more_work_saved_than_the_model_allows(compress: Run, tmp_path: Path) -> None:
    before = tree(tmp_path)
    # Every weight of this model is used once per sample.
    code, _, err = compress(mac_ratio=0.99)
    assert (code, err) == (
        3,
        "error: --mac-ratio 0.99 is beyond what this model allows: at most 0.9884 of its "
        "multiply-accumulates can go (crespr-onnx inspect shows what stays dense and why)\n",
    )
    assert tree(tmp_path) == before
    assert compress(mac_ratio=0.9884, clusters=1, epochs=0)[0] == 0
    ratio = stored(tmp_path / "out")["ratio"]
    assert (ratio["mac_requested"], ratio["macs_before"], ratio["macs_after"]) == (0.9884, 432, 5)


def damaged(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x[5, 2] = np.nan
    return x


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (lambda x: {"x": damaged(x)}, "x has NaN or infinity in 1 samples, first in sample 5;"),
        (lambda x: {"input": x}, "holds input, which the model has no input for;"),
        (lambda x: {"x": x[:, :7]}, "x has shape [96, 7]; [N, 8] is needed, N samples first."),
        (lambda x: {"x": x.astype(float)}, "x is float64, not float32; convert it with"),
        (lambda x: {"x": x, "labels": np.arange(96) % 4}, "labels go from 0 to 3; 3 is out of"),
    ],
)
@pytest.mark.parametrize("option", ["data", "eval_data"])
def test_4_data(
    compress: Run, tmp_path: Path, arrays: Callable[..., Any], message: str, option: str
) -> None:
    path = tmp_path / "bad.npz"
    np.savez(path, **arrays(normal(0, 96, 8)))
    before = tree(tmp_path)
    code, out, err = compress(**{option: path})
    assert (code, out) == (4, "")
    assert err.startswith(f"error: {path}: {message}")
    assert one_line(err)
    assert "x: float32[N,8] -> y: float32[N,3]" in err
    assert tree(tmp_path) == before


def test_4_too_few_samples_to_train_on(compress: Run, tmp_path: Path) -> None:
    few = write_data(tmp_path / "few.npz", samples=7)
    before = tree(tmp_path)
    code, out, err = compress(data=few)
    assert (code, out) == (4, "")
    assert err.startswith(f"error: {few}: has 7 samples; at least 8 are needed. ")
    assert tree(tmp_path) == before
    assert compress(eval_data=few, epochs=0)[0] == 0


def test_4_training_without_data(compress: Run, tmp_path: Path) -> None:
    before = tree(tmp_path)
    assert compress(data=None) == (
        4,
        "",
        "error: --epochs 2 needs --data that the model was trained on: x: float32[N,8] -> "
        "y: float32[N,3]; give it, or --epochs 0 to prune by the weights alone\n",
    )
    assert tree(tmp_path) == before


def check_results(tmp_path: Path, code: int, reasons: list[str]) -> None:
    """The report is there, with its exit code and its reasons."""
    report = stored(tmp_path / "out")
    assert (report["status"], report["exit_code"]) == ("failed", code)
    assert len(report["reasons"]) == len(reasons)
    for found, start in zip(report["reasons"], reasons, strict=True):
        assert found.startswith(start)
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "failed" in page.lower()
    assert not [name for name in tree(tmp_path) if ".crespr-" in name]


def test_5_accuracy_gate(compress: Run, tmp_path: Path) -> None:
    data = write_data(tmp_path / "d.npz", 200, labels=False)
    code, _, err = compress(epochs=0, max_drop=0.01, data=None, eval_data=data)
    assert code == 5
    assert one_line(err)
    check_results(tmp_path, 5, ["agreement fell by "])
    assert err.endswith("--max-drop allows 0.01: train longer (--epochs) or lower --ratio\n")
    assert (tmp_path / "out" / "model.onnx").is_file()


@pytest.mark.parametrize("clusters", [2, None])
def test_5_training_that_diverges(compress: Run, tmp_path: Path, clusters: int | None) -> None:
    code, _, err = compress(lr=1e30, epochs=20, clusters=clusters)
    assert code == 5
    assert one_line(err)
    check_results(tmp_path, 5, ["training diverged: the loss is "])
    assert not (tmp_path / "out" / "model.onnx").exists()


def test_6_speed_gate(compress: Run, tmp_path: Path) -> None:
    code, out, err = compress(min_speedup=1000)
    assert code == 6
    assert one_line(err)
    assert "432" in out
    assert err.endswith(
        " times as fast as the dense one in ONNX Runtime; --min-speedup asks for 1000\n"
    )
    check_results(tmp_path, 6, ["the compressed model is "])


def test_the_accuracy_gate_comes_before_the_speed_gate(compress: Run, tmp_path: Path) -> None:
    data = write_data(tmp_path / "d.npz", 200, labels=False)
    code, _, err = compress(epochs=0, max_drop=0.01, min_speedup=1000, data=None, eval_data=data)
    assert (code, err.count("error: ")) == (5, 2)
    check_results(tmp_path, 5, ["agreement fell by ", "the compressed model is "])


def test_7_verification(compress: Run, tmp_path: Path) -> None:
    """A model so ill-conditioned that the order of its sums decides what it answers."""
    text = """g (float[N, 8] x) => (float[N, 3] y) {
        h = MatMul (x, w1)
        m = MatMul (h, w2)
        s = MatMul (m, w3)
        b = Mul (s, huge)
        y = Sin (b)
    }"""
    model = write_model(
        tmp_path / "m.onnx", text, w1=normal(0, 8, 16), w2=normal(1, 16, 16), w3=normal(2, 16, 3),
        huge=np.array([1e6], np.float32),
    )  # fmt: skip
    code, _, err = compress(model=model, epochs=0)
    assert code == 7
    assert one_line(err)
    check_results(
        tmp_path, 7, ["the passes changed what the model computes: output 'y' differs by "]
    )
    assert not (tmp_path / "out" / "model.onnx").exists()


def test_8_compile(compress: Run, tmp_path: Path) -> None:
    text = """g (float[N, 8] x) => (float[N, 3] y) {
        h = MatMul (x, w1)
        r = Relu (h)
        t = MatMul (r, w2)
        [odd] d = Det (square)
        y = Add (t, d)
    }"""
    model = write_model(
        tmp_path / "m.onnx", text, w1=normal(0, 8, 16), w2=normal(1, 16, 3), square=normal(2, 2, 2)
    )
    code, _, err = compress(model=model, data=None, epochs=0, clusters=1, ratio=0.5, target="cpu")
    assert code == 8
    assert "The following operators are not supported for frontend ONNX: Det" in err
    check_results(tmp_path, 8, ["TVM cannot import node "])
    assert not (tmp_path / "out" / "model.so").exists()
    # What was trained is not lost: another target goes on with it.
    settings = {"data": None, "epochs": 0, "clusters": 1, "ratio": 0.5}
    assert compress("--resume", model=model, target="onnx", **settings)[0] == 0
    assert not (tmp_path / "out" / "checkpoints").exists()


def test_what_was_delivered_before_is_gone_when_a_forced_run_fails(
    compress: Run, tmp_path: Path
) -> None:
    assert compress(epochs=0)[0] == 0
    first = tree(tmp_path / "out")
    # A refusal before the run touches nothing of it.
    assert compress("--force", ratio=0.99)[0] == 3
    assert tree(tmp_path / "out") == first
    data = write_data(tmp_path / "d.npz", 200, labels=False)
    assert compress("--force", epochs=0, max_drop=0.01, data=None, eval_data=data)[0] == 5
    assert tree(tmp_path / "out")["report.json"] != first["report.json"]
