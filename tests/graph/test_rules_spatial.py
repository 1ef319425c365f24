"""Operators that work on space and leave channels alone."""

import numpy as np
import pytest
from rule_helpers import A, analyse

from crespr_onnx.graph.rules.spatial import POOLING, REDUCTIONS

SCALES = np.array([1, 1, 2, 2], np.float32)


@pytest.mark.parametrize("op", POOLING)
def test_pooling(op: str):
    found = analyse(f"b = {op}{'' if 'Global' in op else '<kernel_shape = [2, 2]>'}(a)")
    assert found.axis("b") == (1, A)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (
            "b, i = MaxPool<kernel_shape = [2, 2]>(a) c = Cast<to = 1>(i)",
            "its output 'i' is used",
        ),
        (
            "t = Transpose<perm = [0, 2, 1, 3]>(a) b = MaxPool<kernel_shape = [2, 2]>(t)",
            "the channels of its input are not on axis 1",
        ),
    ],
)
def test_pooling_obstacles(body: str, reason: str):
    found = analyse(body)
    assert found.found() == [("MaxPool", reason)]
    assert all(str(r).endswith(reason) for r in found.reasons("a"))


@pytest.mark.parametrize("op", REDUCTIONS)
@pytest.mark.parametrize("opset", [12, 18])
def test_reductions_over_space(op: str, opset: int):
    call = "<axes = [2, 3]>(a) k0 = Identity(k)" if opset == 12 else "(a, k)"
    found = analyse(f"b = {op}{call}", opset=opset, k=np.array([2, 3]))
    assert found.axis("b") == (1, A)


def test_axes_that_go_move_that_of_the_channels():
    body = "t = Transpose<perm = [0, 2, 3, 1]>(a) b = ReduceMean<axes = [1, -2], keepdims = 0>(t)"
    assert analyse(body).axis("b") == (1, A)
    assert analyse("b = ReduceMean<axes = [2], keepdims = 0>(a)").axis("b") == (1, A)


@pytest.mark.parametrize(
    ("body", "more", "reason"),
    [
        ("b = ReduceSum(a, k)", {"k": np.array([1])}, "it reduces over the channels"),
        ("b = ReduceSum(a, k)", {"k": np.array([-3, 2])}, "it reduces over the channels"),
        (
            "b = ReduceSum<noop_with_empty_axes = 1>(a, k)",
            {"k": np.array([], np.int64)},
            "it reduces over the channels",
        ),
        ("b = ReduceSum(a)", {}, "the list of axes is not a constant"),
        (
            "b = ReduceSum(a, k)",
            {"inputs": "int64[1] k"},
            "the list of axes is not a constant",
        ),
    ],
)
def test_reduction_obstacles(body: str, more: dict[str, object], reason: str):
    found = analyse(body, **more)
    assert found.found() == [("ReduceSum", reason)]
    assert found.reasons("a") == {f"read by ReduceSum 'reducesum_1': {reason}"}


@pytest.mark.parametrize(("opset", "call"), [(10, "(a, k)"), (11, "(a, roi, k)"), (17, "(a, , k)")])
def test_resize_by_scales(opset: int, call: str):
    more = {"roi": np.zeros(0, np.float32)} if "roi" in call else {}
    assert analyse(f"b = Resize{call}", opset=opset, k=SCALES, **more).axis("b") == (1, A)


@pytest.mark.parametrize(
    ("body", "more", "reason"),
    [
        (
            "b = Resize(a, , , k)",
            {"k": np.array([1, 4, 9, 9])},
            "its scale is not a constant",
        ),
        (
            "b = Resize(a, , e, k)",
            {"k": np.array([1, 4, 9, 9]), "e": np.zeros(0, np.float32)},
            "it gives sizes instead of scales",
        ),
        (
            "b = Resize<axes = [-3, 3]>(a, , k)",
            {"k": SCALES[2:], "opset": 18},
            "it resizes the channels",
        ),
        ("b = Resize(a, , k)", {"k": SCALES[[0, 2, 1, 3]]}, "it resizes the channels"),
        (
            """b = Resize<coordinate_transformation_mode = "tf_crop_and_resize">(a, roi, k)""",
            {"k": SCALES, "roi": np.array([0, 0, 0, 0, 1, 1, 1, 1], np.float32)},
            "it crops",
        ),
    ],
)
def test_resize_obstacles(body: str, more: dict[str, object], reason: str):
    assert analyse(body, **more).found() == [("Resize", reason)]


def test_resize_of_listed_axes():
    for call, more in (("(a, , k)", SCALES[2:]), ("(a, , , k)", np.array([9, 9]))):
        found = analyse(f"b = Resize<axes = [2, 3]>{call}", opset=18, k=more)
        assert (found.axis("b"), found.found()) == ((1, A), [])


@pytest.mark.parametrize("opset", [7, 9])
def test_upsample(opset: int):
    if opset == 7:
        found = analyse("b = Upsample<scales = [1.0, 1.0, 2.0, 2.0]>(a)", opset=7)
    else:
        found = analyse("b = Upsample(a, k)", opset=9, k=SCALES)
    assert (found.axis("b"), found.found()) == ((1, A), [])


def test_upsample_of_channels():
    found = analyse("b = Upsample<scales = [1.0, 2.0, 1.0, 1.0]>(a)", opset=7)
    assert found.found() == [("Upsample", "it resizes the channels")]
