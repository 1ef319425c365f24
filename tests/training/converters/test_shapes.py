"""Operators that change or read shapes."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from converter_checks import check, ints, node_model, normal

from crespr_onnx.training.importer import import_model

EVERY_RESHAPE = (7, 13, 14, 19, 21, 23, 24)


@pytest.mark.parametrize("opset", EVERY_RESHAPE)
def test_reshape(opset: int) -> None:
    for shape in ([4, 6], [0, -1], [-1], [2, 0, 2, 2], [0, 0, 0]):
        check("Reshape", normal(2, 3, 4), ints(*shape), opset=opset)
        check("Reshape", normal(2, 3, 4), ints(*shape), opset=opset, fed=(0, 1))


@pytest.mark.parametrize("fed", [(0,), (0, 1)])
def test_reshape_with_allowzero(fed: tuple[int, ...]) -> None:
    empty = np.zeros((2, 0, 3), np.float32)
    check("Reshape", empty, ints(0, 4), opset=14, fed=fed, allowzero=1)
    check("Reshape", normal(2, 6), ints(-1, 3), opset=14, fed=fed, allowzero=1)


@pytest.mark.parametrize("opset", [7, 13, 15, 19, 21])
def test_shape_and_size(opset: int) -> None:
    check("Shape", normal(2, 3, 4), opset=opset)
    check("Size", normal(2, 3, 4), opset=opset)


@pytest.mark.parametrize(
    "bounds", [{"start": 1}, {"end": 2}, {"start": -2, "end": -1}, {"start": 5}, {"end": 0}]
)
def test_a_part_of_the_shape(bounds: dict[str, int]) -> None:
    check("Shape", normal(2, 3, 4), opset=15, **bounds)


@pytest.mark.parametrize("opset", [7, 11, 13, 21])
@pytest.mark.parametrize("axes", [[1], [1, 3], [-1], None])
def test_squeeze(opset: int, axes: list[int] | None) -> None:
    x = normal(2, 1, 3, 1)
    if opset >= 13:
        arrays = [] if axes is None else [ints(*axes)]
        check("Squeeze", x, *arrays, opset=opset)
        check("Squeeze", x, *arrays, opset=opset, fed=(0, 1)[: 1 + len(arrays)])
    elif opset >= 11 or axes != [-1]:
        check("Squeeze", x, opset=opset, **({} if axes is None else {"axes": axes}))


@pytest.mark.parametrize("opset", [7, 11, 13, 21])
@pytest.mark.parametrize("axes", [[0], [1, 3], [-1, 0], [4, 1]])
def test_unsqueeze(opset: int, axes: list[int]) -> None:
    if opset >= 13:
        check("Unsqueeze", normal(2, 3, 4), ints(*axes), opset=opset)
        check("Unsqueeze", normal(2, 3, 4), ints(*axes), opset=opset, fed=(0, 1))
    elif opset >= 11 or min(axes) >= 0:
        check("Unsqueeze", normal(2, 3, 4), opset=opset, axes=axes)


@pytest.mark.parametrize("opset", [8, 13])
@pytest.mark.parametrize("shape", [[2, 3, 4], [1, 1, 4], [5, 2, 3, 4], [4], [2, 1, 1]])
def test_expand(opset: int, shape: list[int]) -> None:
    for fed in ((0,), (0, 1)):
        check("Expand", normal(2, 3, 1), ints(*shape), opset=opset, fed=fed)


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 21])
@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, None])
def test_flatten(opset: int, axis: int | None) -> None:
    if opset >= 11 or axis != -1:
        check("Flatten", normal(2, 3, 4), opset=opset, **({} if axis is None else {"axis": axis}))


def test_flatten_of_nothing() -> None:
    check("Flatten", np.zeros((0, 3, 4), np.float32), opset=13)


@pytest.mark.parametrize("opset", [7, 13])
def test_tile(opset: int) -> None:
    for fed in ((0,), (0, 1)):
        check("Tile", normal(2, 3), ints(2, 1), opset=opset, fed=fed)


@pytest.mark.parametrize("opset", [7, 13, 21])
def test_transpose(opset: int) -> None:
    check("Transpose", normal(2, 3, 4), opset=opset)
    check("Transpose", normal(2, 3, 4), opset=opset, perm=[2, 0, 1])


@pytest.mark.parametrize("opset", [7, 11, 13])
def test_depth_to_space_and_back(opset: int) -> None:
    modes = [{}, {"mode": "DCR"}, {"mode": "CRD"}] if opset >= 11 else [{}]
    for mode in modes:
        check("DepthToSpace", normal(2, 8, 3, 2), opset=opset, blocksize=2, **mode)
    check("SpaceToDepth", normal(2, 2, 4, 6), opset=opset, blocksize=2)


def test_space_to_depth_in_the_other_order() -> None:
    """New in opset 28, which ONNX Runtime does not have; it undoes DepthToSpace."""
    x, more = normal(2, 8, 3, 2), {"blocksize": 2, "mode": "CRD"}
    back = onnx.helper.make_node("SpaceToDepth", ["out0"], ["y"], **more)
    model = node_model("DepthToSpace", [x], 28, **more)
    model.graph.node.append(back)
    model.graph.output[0].name = "y"
    found = import_model(ir.from_proto(model)).module(torch.from_numpy(x))
    np.testing.assert_array_equal(found.numpy(), x)


@pytest.mark.parametrize("opset", [7, 11, 13])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_concat(opset: int, axis: int) -> None:
    check("Concat", normal(2, 3, 4), normal(2, 3, 4, seed=1), opset=opset, axis=axis)


@pytest.mark.parametrize("opset", [7, 14, 19, 21])
def test_identity(opset: int) -> None:
    check("Identity", normal(2, 3), opset=opset)
