"""Conversion to float16 and int8: the same interface, other numbers inside, and little lost."""

import logging
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from pipeline_models import normal, write_mlp, write_model

from crespr_onnx.errors import ModelError
from crespr_onnx.graph import foreign_tool
from crespr_onnx.graph.accounting import stored_weights
from crespr_onnx.graph.interface import check_same_interface
from crespr_onnx.graph.load import load_model
from crespr_onnx.graph.session import run
from crespr_onnx.graph.to_float16 import to_float16
from crespr_onnx.graph.to_int8 import ARM, GPU, X86, Int8Scheme, to_int8

X = normal(11, 64, 8)
BATCHES = [{"x": X[:32]}, {"x": X[32:]}]

# Two stacked matrices, as split linear layers are, and a convolution in two groups.
STACKED = """g (float[N, 8] x) => (float[2, N, 3] y) {
    two = Reshape (x, split)
    t = Transpose <perm = [1, 0, 2]> (two)
    y = MatMul (t, w)
}"""
GROUPED = """g (float[N, 4, 6, 6] x) => (float[N, 6, 6, 6] y) {
    y = Conv <group = 2, pads = [1, 1, 1, 1]> (x, w, b)
}"""


def mlp(folder: Path, opset: int = 17) -> ir.Model:
    return load_model(write_mlp(folder, opset)).model


def distance(a: ir.Model, b: ir.Model, inputs: dict[str, np.ndarray]) -> float:
    """Largest difference of the outputs `y`, as a share of the largest value."""
    one, other = run(a, inputs)["y"], run(b, inputs)["y"]
    assert (one.dtype, one.shape) == (other.dtype, other.shape)
    return float(np.abs(one - other).max() / np.abs(one).max())


def weight_types(model: ir.Model) -> set[ir.DataType]:
    """Element types of the stored matrices."""
    tensors = [v.const_value for v in model.graph.initializers.values() if v.const_value]
    return {tensor.dtype for tensor in tensors if len(tensor.shape) > 1}


def test_float16_halves_the_weights_and_keeps_the_rest(tmp_path: Path) -> None:
    model = mlp(tmp_path)
    before = ir.to_proto(model).SerializeToString()
    narrow = to_float16(model)
    check_same_interface(model, narrow)
    assert weight_types(narrow) == {ir.DataType.FLOAT16}
    assert stored_weights(narrow) == stored_weights(model) == 432
    assert dict(narrow.metadata_props) == {"user": "kept"}
    assert 0 < distance(model, narrow, {"x": X}) < 2e-3
    assert ir.to_proto(model).SerializeToString() == before


def test_nodes_of_a_float16_model_are_in_order(tmp_path: Path) -> None:
    narrow = to_float16(mlp(tmp_path))
    ops = [node.op_type for node in narrow.graph]
    assert (ops[0], ops[-1]) == ("Cast", "Cast")
    assert ops[1:-1] == ["Gemm", "Relu", "MatMul", "Relu", "Gemm"]


@pytest.mark.parametrize("scheme", [X86, ARM, GPU])
def test_int8_stores_bytes_and_keeps_the_rest(tmp_path: Path, scheme: Int8Scheme) -> None:
    model = mlp(tmp_path)
    before = ir.to_proto(model).SerializeToString()
    narrow = to_int8(model, BATCHES, scheme)
    check_same_interface(model, narrow)
    assert weight_types(narrow) == {ir.DataType.INT8}
    assert stored_weights(narrow) == 432
    assert dict(narrow.metadata_props) == {"user": "kept"}
    assert 0 < distance(model, narrow, {"x": X}) < 0.05
    assert ir.to_proto(model).SerializeToString() == before


def test_schemes_differ_as_they_say(tmp_path: Path) -> None:
    model = mlp(tmp_path)
    largest, points = {}, {}
    for name, scheme in {"x86": X86, "arm": ARM, "gpu": GPU}.items():
        tensors = {
            value.name: value.const_value.numpy()
            for value in to_int8(model, BATCHES, scheme).graph.initializers.values()
            if value.const_value is not None
        }
        largest[name] = int(np.abs(tensors["w2_quantized"].astype(int)).max())
        points[name] = tensors["x_zero_point"]
    assert largest == {"x86": 64, "arm": 127, "gpu": 127}
    assert {name: str(point.dtype) for name, point in points.items()} == {
        "x86": "uint8", "arm": "int8", "gpu": "int8",
    }  # fmt: skip
    assert points["gpu"] == 0
    assert points["x86"] != 0
    assert [str(X86), str(GPU)] == [
        "uint8 activations, int8 weights of 7 bits",
        "symmetric int8 activations, int8 weights",
    ]


def test_stacked_matrices_share_one_scale_which_onnx_runtime_runs(tmp_path: Path) -> None:
    arrays = {"w": normal(3, 2, 4, 3), "split": np.array([-1, 2, 4], np.int64)}
    model = load_model(write_model(tmp_path / "s.onnx", STACKED, **arrays)).model
    narrow = to_int8(model, BATCHES, X86)
    scale = narrow.graph.initializers["w_scale"].const_value
    assert scale is not None
    assert list(scale.shape) == []
    assert distance(model, narrow, {"x": X}) < 0.05


def test_grouped_convolutions_have_a_scale_per_output_channel(tmp_path: Path) -> None:
    arrays = {"w": normal(1, 6, 2, 3, 3), "b": normal(2, 6)}
    model = load_model(write_model(tmp_path / "c.onnx", GROUPED, **arrays)).model
    images = {"x": normal(4, 8, 4, 6, 6)}
    narrow = to_int8(model, [images], X86)
    scale = narrow.graph.initializers["w_scale"].const_value
    assert scale is not None
    assert list(scale.shape) == [6]
    assert distance(model, narrow, images) < 0.05


def test_a_bias_of_two_layers_takes_no_name_that_is_in_use(tmp_path: Path) -> None:
    """The quantiser calls its second copy of b "b0", as the first layer's output is called."""
    text = """g (float[N, 8] x) => (float[N, 8] y) {
        b0 = Gemm (x, w, b)
        y = Gemm (b0, v, b)
    }"""
    arrays = {"w": normal(1, 8, 8), "v": normal(2, 8, 8), "b": normal(3, 8)}
    model = load_model(write_model(tmp_path / "m.onnx", text, **arrays)).model
    narrow = to_int8(model, BATCHES, X86)
    assert distance(model, narrow, {"x": X}) < 0.05


def test_a_tensor_that_two_float32_operators_read_is_cast_once(tmp_path: Path) -> None:
    """Min and Max are among those that the converter leaves in float32."""
    text = """g (float[N, 8] x) => (float[N, 8] y) {
        h = Mul (x, c)
        low = Min (h, c)
        high = Max (h, c)
        y = Add (low, high)
    }"""
    model = load_model(write_model(tmp_path / "m.onnx", text, c=normal(1, 8))).model
    narrow = to_float16(model)
    casts = [node.outputs[0].name for node in narrow.graph if node.op_type == "Cast"]
    assert len(casts) == len(set(casts)) == 6
    assert distance(model, narrow, {"x": X}) < 2e-3


@pytest.mark.parametrize(("opset", "after", "scales"), [(9, 11, []), (12, 12, []), (13, 13, [16])])
def test_old_opsets_have_one_scale(
    tmp_path: Path, opset: int, after: int, scales: list[int]
) -> None:
    model = mlp(tmp_path, opset)
    narrow = to_int8(model, BATCHES, X86)
    scale = narrow.graph.initializers["w2_scale"].const_value
    assert scale is not None
    assert (narrow.opset_imports[""], list(scale.shape)) == (after, scales)
    assert distance(model, narrow, {"x": X}) < 0.1


def test_the_tools_say_nothing_and_leave_logging_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    handlers, disabled = list(root.handlers), root.manager.disable
    to_int8(mlp(tmp_path), BATCHES, X86)
    to_float16(mlp(tmp_path))
    assert (list(root.handlers), root.manager.disable) == (handlers, disabled)
    assert capfd.readouterr() == ("", "")


def test_what_a_tool_cannot_take_is_a_model_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="the model cannot be quantised to int8: No data is coll"):
        to_int8(mlp(tmp_path), [], X86)


def test_too_many_weights_for_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign_tool, "MAX_BYTES", 100)
    with pytest.raises(ModelError, match=r"has 0\.0 GiB of weights; number formats other than"):
        to_float16(mlp(tmp_path))
