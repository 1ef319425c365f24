"""What the tests of boards share: small networks, what ONNX Runtime answers, and what may skip."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from crespr_onnx.errors import CompileError
from crespr_onnx.targets import find_target
from crespr_onnx.targets.board_runtime import fetch_runtime
from crespr_onnx.targets.emulate import keep_runner
from crespr_onnx.targets.place import place_of

Arrays = Mapping[str, NDArray[Any]]

NETS = {
    "lenet": (
        """lenet (float[N, 1, 20, 20] x) => (float[N, 10] y) {
            [conv1] c = Conv <pads = [2, 2, 2, 2]> (x, w1, b1)
            cr = Relu (c)
            p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (cr)
            [conv2] d = Conv (p, w2, b2)
            dr = Relu (d)
            q = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (dr)
            f = Flatten (q)
            [full1] g = Gemm <transB = 1> (f, w3, b3)
            gr = Relu (g)
            [full2] y = Gemm <transB = 1> (gr, w4, b4)
        }""",
        {"w1": (6, 1, 5, 5), "b1": (6,), "w2": (16, 6, 5, 5), "b2": (16,), "w3": (64, 144),
         "b3": (64,), "w4": (10, 64), "b4": (10,)},
    ),
    "resnet": (
        """resnet (float[N, 3, 16, 16] x) => (float[N, 10] y) {
            [stem] s = Conv <pads = [1, 1, 1, 1]> (x, w0, b0)
            sr = Relu (s)
            [block1_a] a = Conv <pads = [1, 1, 1, 1]> (sr, w1, b1)
            ar = Relu (a)
            [block1_b] b = Conv <pads = [1, 1, 1, 1]> (ar, w2, b2)
            j = Add (b, sr)
            jr = Relu (j)
            [block2_a] c = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (jr, w3, b3)
            cr = Relu (c)
            [block2_b] d = Conv <pads = [1, 1, 1, 1]> (cr, w4, b4)
            [shortcut] e = Conv <strides = [2, 2]> (jr, w5, b5)
            k = Add (d, e)
            kr = Relu (k)
            g = GlobalAveragePool (kr)
            f = Flatten (g)
            [full] y = Gemm <transB = 1> (f, w6, b6)
        }""",
        {"w0": (16, 3, 3, 3), "b0": (16,), "w1": (16, 16, 3, 3), "b1": (16,),
         "w2": (16, 16, 3, 3), "b2": (16,), "w3": (32, 16, 3, 3), "b3": (32,),
         "w4": (32, 32, 3, 3), "b4": (32,), "w5": (32, 16, 1, 1), "b5": (32,), "w6": (10, 32),
         "b6": (10,)},
    ),
    "mlp": (
        """mlp (float[N, 40] x) => (float[N, 6] probabilities, float[N, 64] features) {
            [full1] a = Gemm <transB = 1> (x, w1, b1)
            ar = Sigmoid (a)
            [full2] features = MatMul (ar, w2)
            t = Tanh (features)
            [full3] y = Gemm <transB = 1> (t, w3, b3)
            probabilities = Softmax (y)
        }""",
        {"w1": (96, 40), "b1": (96,), "w2": (96, 64), "w3": (6, 64), "b3": (6,)},
    ),
}  # fmt: skip


def write_net(name: str, folder: Path) -> Path:
    """A network of `NETS` with random weights."""
    text, shapes = NETS[name]
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    rng = np.random.default_rng(len(name))
    for weight, shape in shapes.items():
        array = rng.normal(size=shape) / np.sqrt(max(1, np.prod(shape[1:])))
        tensor = onnx.numpy_helper.from_array(array.astype(np.float32), weight)
        model.graph.initializer.append(tensor)
    onnx.checker.check_model(model)
    path = folder / f"{name}.onnx"
    onnx.save(model, path)
    return path


def random_sample(path: Path, seed: int) -> dict[str, NDArray[Any]]:
    """One sample for a network of one input."""
    (value,) = onnx.load(path).graph.input
    shape = [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]
    return {value.name: np.random.default_rng(seed).normal(size=shape).astype(np.float32)}


def answers(path: Path, inputs: Arrays) -> dict[str, NDArray[Any]]:
    """What ONNX Runtime computes, by name."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(None, dict(inputs)), strict=True))


def check_close(found: Arrays, expected: Arrays) -> None:
    """Holds outputs against one another, within 1e-4 of the largest value of each."""
    assert list(found) == list(expected)
    for name, reference in expected.items():
        tolerance = 1e-4 * float(np.abs(reference).max())
        np.testing.assert_allclose(found[name], reference, rtol=0, atol=tolerance, err_msg=name)


def require_emulation(name: str) -> None:
    """Skips a test whose target's artefacts cannot be run here, with the reason."""
    target = find_target(name)
    assert target.system is not None
    if target.system.wheels:
        try:
            fetch_runtime(target.system)
            keep_runner(target.system)
        except CompileError as error:
            pytest.skip(str(error))
    place = place_of(target)
    if place.ran != "emulated":
        pytest.skip(place.remark or f"{name} runs {place.ran}")
