"""What the tests of the pipeline share: a small task, and runs of `compress` on it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from crespr_onnx import pipeline
from crespr_onnx.progress import Listener, silent
from crespr_onnx.record import Report
from crespr_onnx.settings import CompressSettings

DIGITS = Path(__file__).resolve().parents[1] / "samples" / "digits"

MLP = """mlp (float[N, 8] x) => (float[N, 3] y) {
    h1 = Gemm (x, w1, b1)
    a1 = Relu (h1)
    h2 = MatMul (a1, w2)
    a2 = Relu (h2)
    y = Gemm <transB = 1> (a2, w3, b3)
}"""

# Layers w1 and w2 behind an operator that cannot be trained, and for batches of two only.
HARDMAX = """g (float[N, 8] x) => (float[N, 3] y) {
    [odd] t = Hardmax (x)
    h = MatMul (t, w1)
    r = Relu (h)
    y = MatMul (r, w2)
}"""
FIXED = """g (float[2, 8] x) => (float[2, 3] y) {
    h = MatMul (x, w1)
    r = Relu (h)
    y = MatMul (r, w2)
}"""


def normal(seed: int, *shape: int) -> NDArray[np.float32]:
    """Random numbers of a fixed seed."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def write_model(path: Path, text: str, opset: int = 17, **arrays: NDArray[Any]) -> Path:
    """Writes a model from the text of its graph and its initializers."""
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : {opset}], metadata_props: ["user" : "kept"]> {text}'
    )
    for i, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type.lower()}_{i}"
    for name, array in arrays.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def write_mlp(folder: Path, opset: int = 17) -> Path:
    """An MLP of 8 x 16 + 16 x 16 + 16 x 3 = 432 weights; its classes are those of `write_data`."""
    arrays = {
        "w1": normal(1, 8, 16), "b1": normal(2, 16), "w2": 0.4 * normal(3, 16, 16),
        "w3": normal(5, 3, 16), "b3": normal(6, 3),
    }  # fmt: skip
    return write_model(folder / "mlp.onnx", MLP, opset, **arrays)


def write_data(path: Path, samples: int = 96, seed: int = 7, *, labels: bool = True) -> str:
    """Samples for the MLP, labelled by the largest of three inputs."""
    x = normal(seed, samples, 8)
    arrays: dict[str, NDArray[Any]] = {"x": x}
    if labels:
        arrays["labels"] = x[:, :3].argmax(axis=1)
    np.savez(path, **arrays)
    return str(path)


def compress(folder: Path, listener: Listener = silent, **settings: Any) -> Report:
    """Runs the pipeline on the MLP and its data, unless told otherwise; no gate fails it."""
    given: dict[str, Any] = {
        "model": folder / "mlp.onnx", "ratio": 0.6, "output": folder / "out", "threads": 1,
        "epochs": 5, "batch_size": 16, "max_drop": 1.0, "min_speedup": 0.0, "clusters": 2,
        "form": "grouped",  # which one is the fastest may be another one every time
    }  # fmt: skip
    if not given["model"].exists():
        write_mlp(folder)
    if "data" not in settings:
        given["data"] = write_data(folder / "data.npz")
    return pipeline.compress(CompressSettings(**given | settings), listener, "the command")


def stored(path: Path) -> Any:
    """The report that lies in a folder."""
    return json.loads((path / "report.json").read_text("utf-8"))


def tree(folder: Path) -> dict[str, bytes]:
    """All files below a folder with their content."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
