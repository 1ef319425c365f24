"""Damaged files end in a ModelError or load; nothing else ever comes out."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from crespr_onnx.errors import ModelError
from crespr_onnx.graph.load import load_model

NET = """
<ir_version: 8, opset_import: ["" : 17, "com.example" : 1]>
net (float[batch,1,4,4] image, int64[2] shape) => (float[batch,2] logits, int64[1] count)
<float[2,1,3,3] kernel = {1,2,3,4,5,6,7,8,9,1,1,1,1,1,1,1,1,1}, float[8,2] weight =
 {1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16}, float[2] bias = {1,2}>
{
  c = Conv <kernel_shape = [3, 3], pads = [0, 0, 0, 0], auto_pad = "NOTSET"> (image, kernel)
  r = Relu(c)
  f = Flatten(r)
  g = Gemm <transB = 0, alpha = 1.0> (f, weight, bias)
  none = Constant <value = int64[2] {0, 2}> ()
  s = Concat <axis = 0> (shape, none)
  logits = Identity(g)
  z = Size(s)
  one = Constant <value = int64[1] {1}> ()
  count = Reshape(z, one)
}
"""


def load_or_refuse(path: Path, content: bytes) -> bool:
    """Whether a file loads; any exception but a ModelError fails the test."""
    path.write_bytes(content)
    try:
        load_model(path)
    except ModelError:
        return False
    return True


@pytest.fixture(scope="module")
def content() -> bytes:
    model = onnx.parser.parse_model(NET)
    # Weights as exporters store them; the parser leaves them as repeated floats.
    for tensor in model.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    return bytes(model.SerializeToString())


def test_every_truncation_is_refused_or_whole(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "net.onnx"
    assert load_or_refuse(path, content)
    loaded = [end for end in range(len(content)) if load_or_refuse(path, content[:end])]
    # Only bytes after the graph can be missing, and without the opset it is no model either.
    assert loaded == [] or min(loaded) > len(content) - 40


@pytest.mark.parametrize("seed", range(4))
def test_random_damage_never_escapes(tmp_path: Path, content: bytes, seed: int) -> None:
    rng = np.random.default_rng(seed)
    path = tmp_path / "net.onnx"
    outcomes = []
    for _ in range(150):
        damaged = bytearray(content)
        for position in rng.integers(len(content), size=rng.choice([1, 2, 8])):
            damaged[position] ^= 1 << int(rng.integers(8))
        outcomes.append(load_or_refuse(path, bytes(damaged)))
    assert 0 < sum(outcomes) < len(outcomes)


def test_random_bytes_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "net.onnx"
    assert not any(load_or_refuse(path, rng.bytes(int(n))) for n in rng.integers(1, 200, size=100))
