"""Conv and ConvTranspose in one to three dimensions, padded in every way."""

from typing import Any

from converter_checks import check, normal, refusal
from hypothesis import given, settings
from hypothesis import strategies as st

LENGTH = 7


def weights(rank: int, kernel: int, group: int, transposed: bool = False) -> Any:
    """A weight for 4 input channels and 6 outputs."""
    shape = (4, 6 // group) if transposed else (6, 4 // group)
    return normal(*shape, *[kernel] * rank, seed=1)


def sizes(rank: int) -> tuple[int, ...]:
    return tuple(LENGTH - i for i in range(rank))


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.data())
def test_conv(data: st.DataObject) -> None:
    rank, kernel, group = (data.draw(st.integers(1, 3)) for _ in range(3))
    group = 1 if group == 3 else group
    attributes: dict[str, Any] = {
        "strides": [data.draw(st.integers(1, 2)) for _ in range(rank)],
        "group": group,
    }
    auto_pad = data.draw(st.sampled_from(["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    # ONNX Runtime takes no dilation beside automatic padding.
    if not auto_pad.startswith("SAME"):
        attributes["dilations"] = [data.draw(st.integers(1, 2)) for _ in range(rank)]
    if auto_pad == "NOTSET":
        attributes["pads"] = [data.draw(st.integers(0, 2)) for _ in range(2 * rank)]
    else:
        attributes["auto_pad"] = auto_pad
    if data.draw(st.booleans()):
        attributes["kernel_shape"] = [kernel] * rank
    arrays = [normal(2, 4, *sizes(rank)), weights(rank, kernel, group)]
    if data.draw(st.booleans()):
        arrays.append(normal(6, seed=2))
    opset = data.draw(st.sampled_from([7, 11, 22]))
    imported = check("Conv", *arrays, opset=opset, tolerance=1e-4, **attributes)
    assert sorted(imported.bindings) == [f"in{i}" for i in range(1, len(arrays))]


def test_conv_with_computed_weights() -> None:
    check("Conv", normal(2, 4, 5), normal(6, 4, 3), opset=13, fed=(0, 1), tolerance=1e-4)


def test_conv_beyond_three_dimensions_is_refused() -> None:
    reason = refusal("Conv", normal(1, 1, 2, 2, 2, 2), normal(1, 1, 1, 1, 1, 1), opset=13)
    assert reason == "it has 4 spatial axes, and PyTorch takes 1 to 3"


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.data())
def test_conv_transpose(data: st.DataObject) -> None:
    rank, group = data.draw(st.integers(1, 3)), data.draw(st.sampled_from([1, 2]))
    kernel = data.draw(st.integers(2, 3))
    strides = [data.draw(st.integers(1, 3)) for _ in range(rank)]
    attributes: dict[str, Any] = {"strides": strides, "group": group}
    if data.draw(st.booleans()):
        attributes["dilations"] = [data.draw(st.integers(1, 2)) for _ in range(rank)]
    kind = data.draw(st.sampled_from(["plain", "pads", "shape", "same_upper", "same_lower"]))
    if kind == "pads":
        attributes["pads"] = [data.draw(st.integers(0, 1)) for _ in range(2 * rank)]
        attributes["output_padding"] = [data.draw(st.integers(0, s - 1)) for s in strides]
    elif kind == "shape":
        extents = [(kernel - 1) * d + 1 for d in attributes.get("dilations", [1] * rank)]
        attributes["output_shape"] = [
            (n - 1) * s + e - data.draw(st.integers(1 - s, 2))
            for n, s, e in zip(sizes(rank), strides, extents, strict=True)
        ]
    elif kind != "plain":
        attributes["auto_pad"] = kind.upper()
        attributes.pop("dilations", None)
        # ONNX Runtime does not add what is missing where strides exceed the kernel.
        attributes["strides"] = [min(s, kernel) for s in strides]
    arrays = [normal(2, 4, *sizes(rank)), weights(rank, kernel, group, transposed=True)]
    if data.draw(st.booleans()):
        arrays.append(normal(6, seed=2))
    opset = data.draw(st.sampled_from([7, 11, 22]))
    imported = check("ConvTranspose", *arrays, opset=opset, tolerance=1e-4, **attributes)
    assert sorted(imported.bindings) == [f"in{i}" for i in range(1, len(arrays))]
