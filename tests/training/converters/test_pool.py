"""Pooling in one to three dimensions, padded and rounded in every way."""

from typing import Any

import numpy as np
import pytest
from converter_checks import check, normal, refusal
from hypothesis import given, settings
from hypothesis import strategies as st

SIZES = (7, 6, 5)


def windows(
    data: st.DataObject, opset: int, since_ceil: int, since_dilations: int
) -> dict[str, Any]:
    rank = data.draw(st.integers(1, 3))
    kernel = [data.draw(st.integers(1, 3)) for _ in range(rank)]
    attributes: dict[str, Any] = {"kernel_shape": kernel}
    if data.draw(st.booleans()):
        attributes["strides"] = [data.draw(st.integers(1, 3)) for _ in range(rank)]
    auto_pad = data.draw(st.sampled_from(["NOTSET", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    if auto_pad != "NOTSET":
        attributes["auto_pad"] = auto_pad
        # ONNX Runtime refuses what would need negative padding.
        attributes["strides"] = [data.draw(st.integers(1, k)) for k in kernel]
    else:
        attributes["pads"] = [data.draw(st.integers(0, k - 1)) for k in (*kernel, *kernel)]
        if opset >= since_ceil:
            attributes["ceil_mode"] = data.draw(st.integers(0, 1))
        if opset >= since_dilations and data.draw(st.booleans()):
            attributes["dilations"] = [data.draw(st.integers(1, 2)) for _ in range(rank)]
    return attributes


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.data())
def test_max_pool(data: st.DataObject) -> None:
    opset = data.draw(st.sampled_from([7, 8, 10, 11, 12, 22]))
    attributes = windows(data, opset, 10, 10)
    x = normal(2, 3, *SIZES[: len(attributes["kernel_shape"])])
    check("MaxPool", x, opset=opset, **attributes)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.data())
def test_average_pool(data: st.DataObject) -> None:
    opset = data.draw(st.sampled_from([7, 10, 11, 19, 22]))
    attributes = windows(data, opset, 10, 19)
    attributes["count_include_pad"] = data.draw(st.integers(0, 1))
    x = normal(2, 3, *SIZES[: len(attributes["kernel_shape"])])
    check("AveragePool", x, opset=opset, **attributes)


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.data())
def test_lp_pool(data: st.DataObject) -> None:
    opset = data.draw(st.sampled_from([7, 11, 18, 22]))
    attributes = windows(data, opset, 18, 18)
    attributes["p"] = data.draw(st.integers(1, 3))
    x = normal(2, 3, *SIZES[: len(attributes["kernel_shape"])])
    check("LpPool", x, opset=opset, **attributes)


def test_max_pool_of_bytes() -> None:
    x = np.arange(16, dtype=np.int8).reshape(1, 1, 4, 4) - 20
    check("MaxPool", x, opset=12, kernel_shape=[2, 2], pads=[1, 0, 0, 1])


def test_positions_of_maxima_are_refused() -> None:
    reason = refusal("MaxPool", normal(1, 1, 4), opset=12, outputs=2, kernel_shape=[2])
    assert reason == "its second output, the positions of the maxima, is used"


@pytest.mark.parametrize(
    ("operator", "opset"),
    [
        ("GlobalAveragePool", 7), ("GlobalAveragePool", 22), ("GlobalMaxPool", 7),
        ("GlobalMaxPool", 22), ("GlobalLpPool", 7),
    ],
)  # fmt: skip
def test_global_pooling(operator: str, opset: int) -> None:
    for rank in (1, 2, 3):
        check(operator, normal(2, 3, *SIZES[:rank]), opset=opset)
