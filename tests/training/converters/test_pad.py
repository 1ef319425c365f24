"""Pad of every version and mode."""

import numpy as np
import pytest
from converter_checks import check, ints, normal, refusal
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(derandomize=True, deadline=None, max_examples=40)
@given(
    st.sampled_from(["constant", "edge", "reflect", "wrap"]),
    st.lists(st.integers(-1, 2), min_size=6, max_size=6),
    st.booleans(),
)
def test_pads_of_all_axes(mode: str, pads: list[int], fed: bool) -> None:
    if mode == "wrap":  # ONNX Runtime does not wrap what it cuts
        pads = [max(p, 0) for p in pads]
    if mode == "reflect" and min(pads) < 0:
        pads = [max(p, 0) for p in pads]
    x, opset = normal(3, 4, 5), 19 if mode == "wrap" else 18
    check("Pad", x, ints(*pads), opset=opset, fed=(0, 1) if fed else (0,), mode=mode)


@pytest.mark.parametrize("axes", [[1], [-1], [2, 0]])
@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
def test_pads_of_some_axes(axes: list[int], mode: str) -> None:
    pads = ints(*([1] * len(axes) + [2] * len(axes)))
    for fed in ((0,), (0, 1, 3)):
        check("Pad", normal(3, 4, 5), pads, None, ints(*axes), opset=18, fed=fed, mode=mode)


@pytest.mark.parametrize("opset", [11, 13, 18, 19, 21, 23])
def test_a_value_as_input(opset: int) -> None:
    value = np.array(1.5, np.float32)
    for fed in ((0,), (0, 2)):
        check("Pad", normal(2, 3), ints(0, 1, 2, 0), value, opset=opset, fed=fed)


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
def test_pads_as_attribute(mode: str) -> None:
    check("Pad", normal(2, 3), opset=7, pads=[0, 1, 1, 2], mode=mode, value=0.5)


def test_other_types() -> None:
    check("Pad", np.array([1, 2, 3]), ints(1, 2), opset=13)
    check("Pad", normal(3, dtype="float16"), ints(1, 2), opset=18)


def test_an_unknown_mode_is_refused() -> None:
    assert refusal("Pad", normal(3), ints(1, 2), opset=13, mode="odd") == (
        "its mode 'odd' is not known"
    )
