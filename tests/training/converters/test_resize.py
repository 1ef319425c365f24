"""Resize and Upsample."""

from typing import Any

import numpy as np
import pytest
from converter_checks import check, ints, normal, refusal
from hypothesis import given, settings
from hypothesis import strategies as st

TRANSFORMS = [
    "asymmetric", "align_corners", "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel",
]  # fmt: skip
ROUNDING = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]


def scales(*factors: float) -> np.ndarray:
    return np.array([1, 1, *factors], np.float32)


@settings(derandomize=True, deadline=None, max_examples=120)
@given(st.data())
def test_resize(data: st.DataObject) -> None:
    opset = data.draw(st.sampled_from([11, 13, 18, 19]))
    mode = data.draw(st.sampled_from(["nearest", "linear", "cubic"]))
    transforms = [t for t in TRANSFORMS if opset >= 19 or t != "half_pixel_symmetric"]
    attributes: dict[str, Any] = {
        "mode": mode,
        "coordinate_transformation_mode": data.draw(st.sampled_from(transforms)),
    }
    if mode == "nearest":
        attributes["nearest_mode"] = data.draw(st.sampled_from(ROUNDING))
    if mode == "cubic":
        attributes["cubic_coeff_a"] = data.draw(st.sampled_from([-0.75, -0.5]))
        attributes["exclude_outside"] = data.draw(st.integers(0, 1))
    x = normal(2, 2, 4, 6)
    roi = None if opset >= 13 else np.zeros(0, np.float32)
    if data.draw(st.booleans()):
        factors = [data.draw(st.sampled_from([0.5, 1.0, 1.5, 2.0, 3.0])) for _ in range(2)]
        arrays = [x, roi, scales(*factors)]
    else:
        wanted = [data.draw(st.integers(2, 9)) for _ in range(2)]
        arrays = [x, roi, None if opset >= 13 else np.zeros(0, np.float32), ints(2, 2, *wanted)]
    fed = (0, len(arrays) - 1) if data.draw(st.booleans()) else (0,)
    check("Resize", *arrays, opset=opset, fed=fed, tolerance=1e-4, **attributes)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_resize_in_any_dimension(rank: int, mode: str) -> None:
    x = normal(2, 2, *(3, 4, 5)[:rank])
    for transform in ("asymmetric", "half_pixel"):
        rule = {"mode": mode, "coordinate_transformation_mode": transform}
        check("Resize", x, None, scales(*[2.0] * rank), opset=13, nearest_mode="floor", **rule)


@pytest.mark.parametrize("axes", [[2, 3], [3, 2], [-1], [-2, -1]])
def test_resize_of_some_axes(axes: list[int]) -> None:
    factors = np.array([2.0, 1.5][: len(axes)], np.float32)
    check("Resize", normal(1, 2, 4, 6), None, factors, opset=18, axes=axes, mode="linear")
    sizes = ints(*[7, 5][: len(axes)])
    check("Resize", normal(1, 2, 4, 6), None, None, sizes, opset=18, axes=axes, mode="nearest")


@pytest.mark.parametrize("policy", ["stretch", "not_larger", "not_smaller"])
def test_resize_that_keeps_the_aspect_ratio(policy: str) -> None:
    rule = {"axes": [2, 3], "mode": "linear", "keep_aspect_ratio_policy": policy}
    check("Resize", normal(1, 2, 4, 6), None, None, ints(8, 9), opset=18, **rule)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("factor", [0.5, 0.75, 1.5, 2.0])
def test_resize_before_coordinate_modes(mode: str, factor: float) -> None:
    check("Resize", normal(1, 2, 4, 6), scales(factor, 2.0), opset=10, mode=mode)
    if factor >= 1:
        check("Upsample", normal(1, 2, 4, 6), scales(factor, 2.0), opset=9, mode=mode)
        check("Upsample", normal(1, 2, 4, 6), opset=7, mode=mode, scales=[1.0, 1.0, factor, 2.0])


def test_scales_are_no_weights() -> None:
    imported = check("Resize", normal(1, 2, 4, 6), None, scales(2, 2), opset=13, mode="linear")
    assert imported.bindings == {}


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"antialias": 1, "mode": "linear"}, "its antialias=1 has no PyTorch counterpart"),
        (
            {"coordinate_transformation_mode": "tf_crop_and_resize"},
            "its coordinate transformation 'tf_crop_and_resize' is not supported",
        ),
        ({"mode": "odd"}, "its mode 'odd' is not known"),
    ],
)
def test_what_is_refused(attributes: dict[str, Any], reason: str) -> None:
    assert (
        refusal("Resize", normal(1, 2, 4, 6), None, scales(2, 2), opset=18, **attributes) == reason
    )
