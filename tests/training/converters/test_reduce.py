"""Reductions, extremes and running sums."""

import numpy as np
import pytest
from converter_checks import check, ints, normal
from hypothesis import given, settings
from hypothesis import strategies as st

REDUCTIONS = [
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
    "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare",
]  # fmt: skip
AXES = [None, [], [0], [-1], [1, -1], [0, 1, 2]]


def positive(*shape: int) -> np.ndarray:
    return np.abs(normal(*shape)) + 0.5


@pytest.mark.parametrize("operator", REDUCTIONS)
@pytest.mark.parametrize("keepdims", [0, 1])
def test_axes_as_attribute(operator: str, keepdims: int) -> None:
    last = 11 if operator == "ReduceSum" else 13
    for opset in (7, 11, last):
        for axes in (None, [0], [1, 2], [0, -1]):
            if opset < 11 and axes == [0, -1]:
                continue
            more = {} if axes is None else {"axes": axes}
            check(operator, positive(2, 3, 4), opset=opset, keepdims=keepdims, **more)


@pytest.mark.parametrize("operator", REDUCTIONS)
@pytest.mark.parametrize("noop", [0, 1])
@pytest.mark.parametrize("fed", [(0,), (0, 1)])
def test_axes_as_input(operator: str, noop: int, fed: tuple[int, ...]) -> None:
    opset = 13 if operator == "ReduceSum" else 18
    for axes in AXES:
        arrays = [positive(2, 3, 4)] + ([] if axes is None else [ints(*axes)])
        for keepdims in (0, 1):
            check(
                operator, *arrays, opset=opset, fed=fed[: len(arrays)], keepdims=keepdims,
                noop_with_empty_axes=noop,
            )  # fmt: skip


@pytest.mark.parametrize("operator", ["ReduceMax", "ReduceMin", "ReduceSum", "ReduceProd"])
@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_whole_numbers(operator: str, dtype: str) -> None:
    check(operator, np.arange(1, 7, dtype=dtype).reshape(2, 3), ints(1), opset=18)


@pytest.mark.parametrize("operator", ["ReduceMean", "ReduceSum"])
def test_a_scalar_and_half_precision(operator: str) -> None:
    check(operator, np.array(2.5, np.float32), opset=18, fed=(0,))
    check(operator, normal(2, 3, dtype="float16"), ints(0), opset=18, tolerance=2e-3)


def test_the_gradient_of_a_norm_is_finite_at_zero() -> None:
    check("ReduceL2", np.zeros((2, 3), np.float32), ints(1), opset=18)


@pytest.mark.parametrize("operator", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("last", [0, 1])
def test_positions_of_extremes(operator: str, axis: int, last: int) -> None:
    x = np.array([[1, 3, 3, 1], [1, 3, 0, 0], [0, 3, 3, 1]], np.float32)
    for keepdims in (0, 1):
        check(operator, x, opset=13, axis=axis, keepdims=keepdims, select_last_index=last)
        if axis >= 0 and not last:
            check(operator, x, opset=7, axis=axis, keepdims=keepdims)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("largest", [0, 1])
def test_top_k(axis: int, largest: int) -> None:
    x = np.array([[1, 3, 3, 1], [1, 3, 0, 0], [0, 3, 3, 1]], np.float32)
    check("TopK", x, ints(2), opset=11, outputs=2, axis=axis, largest=largest)
    check("TopK", x, ints(2), opset=11, fed=(0, 1), outputs=2, axis=axis, largest=largest)
    if largest and axis >= 0:
        check("TopK", x, ints(3), opset=10, outputs=2, axis=axis)
        check("TopK", x, opset=7, outputs=2, axis=axis, k=2)


@settings(derandomize=True, deadline=None, max_examples=20)
@given(st.integers(-3, 2), st.booleans(), st.booleans(), st.sampled_from(["float32", "int64"]))
def test_cum_sum(axis: int, exclusive: bool, reverse: bool, dtype: str) -> None:
    x = (normal(2, 3, 4) * 5).astype(dtype)
    flags = {"exclusive": int(exclusive), "reverse": int(reverse)}
    check("CumSum", x, np.array(axis), opset=14, **flags)
    check("CumSum", x, np.array(axis), opset=11, fed=(0, 1), **flags)
