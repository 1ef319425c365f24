"""Operators that make tensors."""

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from converter_checks import check, ints, run_onnx

from crespr_onnx.errors import ModelError
from crespr_onnx.training.importer import import_model

VALUES: list[dict[str, Any]] = [
    {"value": onnx.numpy_helper.from_array(np.array([[1.5, 2.5]], np.float32))},
    {"value": onnx.numpy_helper.from_array(np.array(3, np.int32))},
    {"value_float": 1.5}, {"value_floats": [1.5, 2.5]}, {"value_int": 3}, {"value_ints": [3, 4]},
]  # fmt: skip


def constant_model(opset: int, **attributes: Any) -> onnx.ModelProto:
    node = onnx.helper.make_node("Constant", [], ["y"], name="the_node", **attributes)
    graph = onnx.helper.make_graph([node], "g", [], [onnx.helper.make_empty_tensor_value_info("y")])
    opsets = [onnx.helper.make_opsetid("", opset)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return onnx.shape_inference.infer_shapes(model)


@pytest.mark.parametrize("attributes", VALUES, ids=str)
def test_constants(attributes: dict[str, Any]) -> None:
    for opset in (9, 11, 12, 13, 19, 21):
        if opset >= 12 or "value" in attributes:
            model = constant_model(opset, **attributes)
            (expected,) = run_onnx(model, {})
            found = import_model(ir.from_proto(model)).module().numpy()
            assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
            np.testing.assert_array_equal(found, expected)


def test_a_constant_text_is_refused() -> None:
    with pytest.raises(ModelError, match=r"its value_string has no PyTorch counterpart"):
        import_model(ir.from_proto(constant_model(13, value_string="text")))


def test_bfloat16() -> None:
    value = onnx.helper.make_tensor("", onnx.TensorProto.BFLOAT16, [2], [1.5, -2.0])
    found = import_model(ir.from_proto(constant_model(13, value=value))).module()
    assert torch.equal(found, torch.tensor([1.5, -2.0], dtype=torch.bfloat16))


@pytest.mark.parametrize("bounds", [(0, 5, 1), (5, 0, -2), (3, 3, 1), (1, 8, 3), (5, 0, 1)])
@pytest.mark.parametrize("dtype", ["int64", "int32", "float32", "float64"])
def test_range(bounds: tuple[int, int, int], dtype: str) -> None:
    check("Range", *(np.array(b, dtype) for b in bounds), opset=11, fed=(0, 1, 2))


@pytest.mark.parametrize("opset", [9, 20, 21])
def test_constant_of_shape(opset: int) -> None:
    check("ConstantOfShape", ints(2, 3), opset=opset)
    for value in (np.array([2.5], np.float32), np.array([7]), np.array([True])):
        tensor = onnx.numpy_helper.from_array(value)
        check("ConstantOfShape", ints(2, 3), opset=opset, value=tensor)


@pytest.mark.parametrize("opset", [9, 11])
@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_one_hot(opset: int, axis: int) -> None:
    for values in (np.array([0, 1], np.float32), np.array([-1, 5])):
        arrays = [np.array([[0, 2], [1, -1]]), np.array(3), values]
        imported = check("OneHot", *arrays, opset=opset, axis=axis)
        assert imported.bindings == {}
        check("OneHot", *arrays, opset=opset, axis=axis, fed=(0, 1, 2))


@pytest.mark.parametrize("opset", [9, 22])
def test_eye_like(opset: int) -> None:
    check("EyeLike", np.zeros((3, 4), np.float32), opset=opset, k=1)
