"""What the tests of the command line share."""

import sys
from pathlib import Path

import numpy as np
import onnx

ROOT = Path(__file__).resolve().parents[1]
DIGITS = str(ROOT / "samples/digits/digits.onnx")
PROGRAM = [sys.executable, "-m", "crespr_onnx"]
COMPRESS_HELP = "see crespr-onnx compress --help\n"


def linear(
    path: Path, seed: int = 0, scale: float = 1.0, output: str = "y", inputs: int = 4
) -> str:
    """A model of one layer, from inputs to 3, on disk."""
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g (float[N, {inputs}] x) => (float[N, 3] '
        f"{output}) {{[layer] {output} = MatMul(x, w)}}"
    )
    weight = np.random.default_rng(seed).standard_normal((inputs, 3)).astype(np.float32) * scale
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    onnx.save(model, path)
    return str(path)
