"""Routing channels: the least that shows them, and always exactly them."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crespr_onnx.layout import ZERO
from crespr_onnx.passes.edit import Editor
from crespr_onnx.passes.route import route


def routed(positions: list[int], length: int, opset: int = 17, axis: int = 1) -> ir.Model:
    """A model that routes x, of three axes and 2 long on all but one, to y."""
    shape = [2, 2, 2]
    shape[axis] = length
    x = ir.val("x", ir.DataType.FLOAT, shape)
    model = ir.Model(ir.Graph([x], [], nodes=[], opset_imports={"": opset}, name="g"), ir_version=8)
    editor = Editor(model)
    nodes = route(editor, x, 3, axis, length, np.array(positions, np.int64), "r")
    nodes = nodes or [editor.node("Identity", [x], "same")]
    model.graph.extend(nodes)
    nodes[-1].outputs[0].dtype = ir.DataType.FLOAT
    nodes[-1].outputs[0].shape = ir.Shape([None, None, None])
    model.graph.outputs.append(nodes[-1].outputs[0])
    return model


def ops(positions: list[int], length: int) -> list[str]:
    return [node.op_type for node in routed(positions, length).graph]


@pytest.mark.parametrize(
    ("positions", "length", "expected"),
    [
        ([0, 1, 2, 3], 4, ["Identity"]),
        ([1, 2], 4, ["Slice"]),
        ([ZERO, 0, 1, 2, 3, ZERO], 4, ["Pad"]),
        ([2, 3, ZERO], 4, ["Slice", "Pad"]),
        ([3], 4, ["Slice"]),
        ([0, 2], 4, ["Split", "Slice", "Slice", "Concat"]),
        ([0, 1, ZERO, 2, 3, ZERO], 4, ["Split", "Pad", "Pad", "Concat"]),
        ([1, ZERO, 3, ZERO], 4, ["Split", "Slice", "Pad", "Slice", "Pad", "Concat"]),
        ([0, ZERO, 2, 3], 4, ["Split", "Slice", "Pad", "Concat"]),
        ([1, 0], 2, ["Gather"]),
        ([0, 0], 2, ["Gather"]),
        ([2, ZERO, 0], 3, ["Pad", "Gather"]),
        ([ZERO, ZERO], 2, ["Pad", "Gather"]),
    ],
)
def test_forms(positions: list[int], length: int, expected: list[str]):
    assert ops(positions, length) == expected


def test_many_blocks_are_gathered():
    picked = [2 * i for i in range(33)]
    assert ops(picked, 66) == ["Gather"]
    assert ops(picked[:32], 64).count("Slice") == 32


POSITIONS = st.integers(1, 12).flatmap(
    lambda length: st.tuples(
        st.just(length), st.lists(st.integers(ZERO, length - 1), min_size=1, max_size=12)
    )
)
BLOCKS = st.tuples(
    st.integers(1, 4), st.integers(1, 4), st.integers(0, 2), st.integers(0, 2), st.integers(0, 3)
)


def check(length: int, positions: list[int], opset: int, axis: int) -> None:
    model = ir.to_proto(routed(positions, length, opset, axis))
    onnx.checker.check_model(model)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    shape = [2, 2, 2]
    shape[axis] = length
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    (found,) = session.run(None, {"x": x})
    expected = x.take(positions, axis=axis)
    np.moveaxis(expected, axis, 0)[np.array(positions) == ZERO] = 0
    np.testing.assert_array_equal(found, expected)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(POSITIONS, st.sampled_from([9, 10, 11, 13, 18]), st.sampled_from([1, 2]))
def test_any_positions(entry: tuple[int, list[int]], opset: int, axis: int):
    check(*entry, opset, axis)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(BLOCKS, st.sampled_from([9, 11, 18]))
def test_equal_blocks(block: tuple[int, int, int, int, int], opset: int):
    k, size, before, after, cut = block
    inner = [*[ZERO] * before, *range(min(cut, size - 1), size), *[ZERO] * after]
    positions = [p if p == ZERO else p + i * size for i in range(k) for p in inner]
    check(k * size, positions, opset, 1)
