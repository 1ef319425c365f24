"""Models are written whole, in one file or two, and read back as they were."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from crespr_onnx.errors import UsageError
from crespr_onnx.graph.load import load_model
from crespr_onnx.graph.save import data_path, model_bytes, save_model, saved_bytes
from crespr_onnx.graph.session import make_session, run

X = np.linspace(-1, 1, 3 * 8, dtype=np.float32).reshape(3, 8)


def net() -> ir.Model:
    """Two large weights with a small one between them, of different types."""
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17], metadata_props: ["user" : "kept"]>
        net (float[n,8] x) => (float[n,4] y) {
          h = MatMul(x, first)
          b = Add(h, bias)
          w = Cast<to = 1>(second)
          y = MatMul(b, w)
        }""")
    rng = np.random.default_rng(0)
    for name, shape, dtype in (
        ("first", (8, 16), np.float32),
        ("bias", (16,), np.float32),
        ("second", (16, 4), np.float16),
    ):
        array = rng.standard_normal(shape).astype(dtype)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    onnx.checker.check_model(model, full_check=True)
    return ir.from_proto(model)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_small_model_is_one_plain_message(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    save_model(net(), path)
    assert path.read_bytes() == ir.to_proto(net()).SerializeToString(deterministic=True)
    assert saved_bytes(path) == model_bytes(net()) == path.stat().st_size
    assert files(tmp_path) == ["net.onnx"]


def test_large_weights_are_streamed_into_the_same_message(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    save_model(net(), path, large=100)
    assert onnx.load(path) == ir.to_proto(net())
    onnx.checker.check_model(str(path), full_check=True)
    np.testing.assert_array_equal(run(path, {"x": X})["y"], run(net(), {"x": X})["y"])


def test_lengths_beyond_seven_bits_are_written_right(tmp_path: Path) -> None:
    weight = np.arange(40_000, dtype=np.float32).reshape(8, 5000)
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> '
        "net (float[n,8] x) => (float[n,5000] y) { y = MatMul(x, w) }"
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    save_model(ir.from_proto(model), tmp_path / "net.onnx", large=1)
    assert onnx.load(tmp_path / "net.onnx") == ir.to_proto(ir.from_proto(model))


def test_many_weights_lie_in_a_file_beside(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    save_model(net(), path, max_embedded=100, large=100)
    assert files(tmp_path) == ["net.onnx", "net.onnx.data"]
    shell = onnx.load(path, load_external_data=False)
    placed = {
        tensor.name: {entry.key: entry.value for entry in tensor.external_data}
        for tensor in shell.graph.initializer
    }
    assert placed == {
        "first": {"location": "net.onnx.data", "offset": "0", "length": "512"},
        "bias": {},
        "second": {"location": "net.onnx.data", "offset": "4096", "length": "128"},
    }
    assert data_path(path).stat().st_size == saved_bytes(path) - path.stat().st_size == 4096 + 128
    onnx.checker.check_model(str(path), full_check=True)
    np.testing.assert_array_equal(run(path, {"x": X})["y"], run(net(), {"x": X})["y"])
    loaded = load_model(path, large=100)
    assert list(loaded.model.graph.initializers) == ["first", "bias", "second"]
    np.testing.assert_array_equal(run(loaded.model, {"x": X})["y"], run(net(), {"x": X})["y"])


def test_a_model_can_be_written_over_the_data_that_it_is_mapped_from(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    save_model(net(), path, max_embedded=100, large=100)
    for _ in range(2):
        save_model(load_model(path, large=100).model, path, max_embedded=100, large=100)
    np.testing.assert_array_equal(run(path, {"x": X})["y"], run(net(), {"x": X})["y"])


def test_data_of_an_earlier_model_goes(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    save_model(net(), path, max_embedded=100, large=100)
    save_model(net(), path)
    assert files(tmp_path) == ["net.onnx"]


def test_nothing_is_left_of_a_model_that_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    data_path(path).mkdir()
    with pytest.raises(UsageError, match=r"net\.onnx\.data cannot be written: Is a directory"):
        save_model(net(), path, max_embedded=100, large=100)
    assert files(tmp_path) == ["net.onnx.data"]


def test_sessions_borrow_large_weights() -> None:
    weight = np.random.default_rng(1).standard_normal((512, 512)).astype(np.float32)
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> '
        "net (float[n,512] x) => (float[n,512] y) { h = MatMul(x, w)  y = Relu(h) }"
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    large = ir.from_proto(model)
    x = np.random.default_rng(2).standard_normal((2, 512)).astype(np.float32)
    session = make_session(large, max_serialised=1000)
    del large, weight
    np.testing.assert_array_equal(run(session, {"x": x})["y"], run(model, {"x": x})["y"])
