"""Slices, gathers, scatters and splits."""

import numpy as np
import pytest
import torch
from converter_checks import check, ints, normal
from hypothesis import given, settings
from hypothesis import strategies as st

FAR = 2**63 - 1
BOUND = st.one_of(st.integers(-8, 8), st.sampled_from([FAR, -FAR]))
STEP = st.integers(-3, 3).filter(bool)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(BOUND, BOUND, st.integers(-3, 2), STEP, st.booleans())
def test_slice(start: int, end: int, axis: int, step: int, fed: bool) -> None:
    arrays = [ints(start), ints(end), ints(axis), ints(step)]
    which = (0, 1, 2, 3, 4) if fed else (0,)
    check("Slice", normal(4, 5, 6), *arrays, opset=13, fed=which)


@pytest.mark.parametrize("opset", [10, 11, 13])
def test_slice_of_several_axes(opset: int) -> None:
    check("Slice", normal(4, 5), ints(1, -3), ints(3, FAR), opset=opset)
    check("Slice", normal(4, 5), ints(1), ints(3), None, ints(2), opset=opset)
    check("Slice", normal(4, 5), ints(-1, 0), ints(-FAR, 3), ints(1, 0), ints(-2, 1), opset=opset)


def test_slice_by_attributes() -> None:
    check("Slice", normal(4, 5), opset=7, starts=[1, 0], ends=[3, 1000])
    check("Slice", normal(4, 5), opset=9, starts=[-3], ends=[-1], axes=[1])


@pytest.mark.parametrize("opset", [7, 11, 13, 18])
@pytest.mark.parametrize("axis", [1, -1])
def test_split(opset: int, axis: int) -> None:
    if opset < 11 and axis < 0:
        return
    x = normal(2, 6)
    parts = {"num_outputs": 3} if opset >= 18 else {}
    check("Split", x, opset=opset, outputs=3, axis=axis, **parts)
    if opset < 13:
        check("Split", x, opset=opset, outputs=2, axis=axis, split=[2, 4])
    else:
        for fed in ((0,), (0, 1)):
            check("Split", x, ints(2, 4), opset=opset, outputs=2, axis=axis, fed=fed)
            check("Split", x, ints(6), opset=opset, outputs=1, axis=axis, fed=fed)


@pytest.mark.parametrize(("size", "parts"), [(7, 3), (7, 4), (4, 4), (5, 1)])
def test_split_into_parts_of_which_the_last_is_smaller(size: int, parts: int) -> None:
    check("Split", normal(2, size), opset=18, outputs=parts, axis=1, num_outputs=parts)


@pytest.mark.parametrize("opset", [7, 11, 13])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather(opset: int, axis: int) -> None:
    if opset < 11 and axis < 0:
        return
    for index in (np.array(1), ints(0, 2), np.array([[0, 1], [2, 1]])):
        check("Gather", normal(3, 4), index, opset=opset, axis=axis)
        if opset >= 11:
            check("Gather", normal(3, 4), index - 2, opset=opset, axis=axis, fed=(0, 1))


@pytest.mark.parametrize("channels", [5, 200])
def test_gather_of_the_channels_of_images_and_its_gradient(channels: int) -> None:
    index = np.array([3, 0, 3, channels - 1])
    imported = check("Gather", normal(2, channels, 3, 4), index, opset=13, axis=1)
    x = torch.from_numpy(normal(2, channels, 3, 4)).requires_grad_()
    picked = imported.module(x)
    towards = torch.from_numpy(normal(*picked.shape))
    expected = torch.zeros_like(x).index_add(1, torch.from_numpy(index), towards)
    torch.testing.assert_close(torch.autograd.grad(picked, x, towards)[0], expected)


def test_gather_of_one_element() -> None:
    check("Gather", np.array([4, 5, 6]), np.array(-1), opset=13, fed=(0, 1))


def test_gather_from_a_table_trains_it() -> None:
    table, rows = normal(5, 3), np.array([[0, 4], [1, -1]])
    imported = check("Gather", table, rows, opset=13, fed=(1,))
    assert list(imported.bindings) == ["in0"]
    check("Gather", table, np.array(2), opset=13, fed=(1,))


@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather_elements(opset: int, axis: int) -> None:
    index = np.array([[0, 1, -1], [2, 0, 1]])
    check("GatherElements", normal(3, 3), index, opset=opset, axis=axis)


@pytest.mark.parametrize(
    ("batch_dims", "index"),
    [
        (0, [[0, 1], [1, -1]]), (0, [[1]]), (0, [[[0, 1, 2]], [[1, 2, -4]]]),
        (1, [[1], [0]]), (1, [[1, 2], [0, -1]]), (2, [[[1], [0], [2]], [[0], [3], [1]]]),
    ],
)  # fmt: skip
def test_gather_nd(batch_dims: int, index: list[object]) -> None:
    check("GatherND", normal(2, 3, 4), np.array(index), opset=13, batch_dims=batch_dims)
    if not batch_dims:
        check("GatherND", normal(2, 3, 4), np.array(index), opset=11)


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_scatter_elements(reduction: str, axis: int) -> None:
    index = np.array([[0, 1, -1], [2, 0, 1]])
    arrays = [normal(3, 3), index, normal(2, 3, seed=1)]
    check("ScatterElements", *arrays, opset=18, axis=axis, reduction=reduction, gradients=False)
    if reduction == "none":
        for opset in (11, 13, 16):
            check("ScatterElements", *arrays, opset=opset, axis=axis)
        if axis >= 0:
            check("Scatter", *arrays, opset=9, axis=axis)


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_scatter_nd(reduction: str, depth: int) -> None:
    index = np.array([[0, 1, 2], [1, -1, 0]])[:, :depth]
    updates = normal(2, *(2, 3, 4)[depth:], seed=1)
    check("ScatterND", normal(2, 3, 4), index, updates, opset=18, reduction=reduction)
    if reduction == "none":
        for opset in (11, 13, 16):
            check("ScatterND", normal(2, 3, 4), index, updates, opset=opset)


@pytest.mark.parametrize("upper", [0, 1])
@pytest.mark.parametrize("k", [None, -1, 0, 2])
def test_trilu(upper: int, k: int | None) -> None:
    arrays = [] if k is None else [np.array(k)]
    check("Trilu", normal(2, 3, 4), *arrays, opset=14, upper=upper)
    check("Trilu", normal(2, 3, 4), *arrays, opset=14, upper=upper, fed=(0, 1)[: 1 + len(arrays)])


@pytest.mark.parametrize("opset", [9, 13])
def test_non_zero(opset: int) -> None:
    check("NonZero", np.array([[1, 0, 2], [0, 0, 3]], np.float32), opset=opset)


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_compress(axis: int | None) -> None:
    keep = np.array([True, False, True])
    check("Compress", normal(3, 3), keep, opset=11, **({} if axis is None else {"axis": axis}))


@pytest.mark.parametrize("time_axis", [0, 1])
def test_reverse_sequence(time_axis: int) -> None:
    x, axes = normal(4, 4, 3), {"time_axis": time_axis, "batch_axis": 1 - time_axis}
    for fed in ((0,), (0, 1)):
        check("ReverseSequence", x, ints(4, 1, 2, 3), opset=10, fed=fed, **axes)
