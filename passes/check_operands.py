"""Refuses weights that do not fit what they are applied to, which shape inference lets pass."""

from collections.abc import Iterator

import onnx_ir as ir

from crespr_onnx.errors import ModelError
from crespr_onnx.passes.surgery import constant, input_at, opset


def check_operands(model: ir.Model) -> None:
    """Compares convolutions, normalisations, Gemm and PRelu with their weights.

    Where a size is not known nothing is checked.

    Raises:
        ModelError: naming the first node that cannot run, its operator and opset.
    """
    for node in model.graph:
        data = input_at(node, 0)
        if node.domain != "" or data is None:
            continue
        if node.op_type == "PRelu":
            _check_slope(model, node)
        for what, expected, found in _comparisons(node):
            if expected != found:
                raise ModelError(
                    f"{_called(model, node)} cannot run: {what} should be {expected} and is "
                    f"{found}; export the model again"
                )


def _check_slope(model: ir.Model, node: ir.Node) -> None:
    """The slope is broadcast to the data, never the other way round."""
    data, slope = (_dims(input_at(node, i)) for i in range(2))
    pairs = zip(reversed(data), reversed(slope), strict=False)
    fits = all(s in (1, d) for d, s in pairs if isinstance(d, int) and isinstance(s, int))
    if data and (len(slope) > len(data) or not fits):
        raise ModelError(
            f"{_called(model, node)} cannot run: its slope of shape {_text(slope)} does not "
            f"broadcast to its input of shape {_text(data)}; export the model again"
        )


def _called(model: ir.Model, node: ir.Node) -> str:
    return f"node {node.name!r} ({node.op_type} of opset {opset(model)})"


def _text(dims: tuple[object, ...]) -> str:
    return f"[{', '.join(map(str, dims))}]"


Comparison = tuple[str, object, object]
"""What is compared: its name, what it should be, what it is."""
# Inputs with one number per channel; of a convolution that is its bias, per output channel.
_CHANNEL_PARAMETERS = {
    "BatchNormalization": (1, 2, 3, 4),
    "Conv": (2,),
    "ConvTranspose": (2,),
    "InstanceNormalization": (1, 2),
}


def _comparisons(node: ir.Node) -> Iterator[Comparison]:
    """What to compare of any node."""
    data = _dims(input_at(node, 0))
    if node.op_type == "Gemm":
        yield from _gemm(node, data)
    elif node.op_type in _CHANNEL_PARAMETERS and len(data) > 1 and isinstance(data[1], int):
        yield from _channels(node, data[1])


def _gemm(node: ir.Node, data: tuple[object, ...]) -> Iterator[Comparison]:
    weight = _dims(input_at(node, 1))
    if data:
        yield "the rank of its input", 2, len(data)
    if not weight:
        return
    yield "the rank of its weight", 2, len(weight)
    inner = 1 if node.attributes.get_int("transB", 0) else 0
    length = data[0 if node.attributes.get_int("transA", 0) else 1] if data else None
    if isinstance(length, int) and isinstance(weight[inner], int):
        yield f"axis {inner} of its weight", length, weight[inner]
    bias, outputs = constant(input_at(node, 2)), weight[1 - inner]
    if bias is not None and bias.ndim and bias.shape[-1] != 1 and isinstance(outputs, int):
        yield "the length of its bias", outputs, bias.shape[-1]


def _channels(node: ir.Node, channels: int) -> Iterator[Comparison]:
    """For convolutions and normalisations of data with this many channels."""
    if "Conv" in node.op_type:
        weight = constant(input_at(node, 1))
        group = node.attributes.get_int("group", 1)
        if weight is None:
            return
        yield "the rank of its weight", len(_dims(input_at(node, 0))), weight.ndim
        yield "the number of groups", max(1, group), group
        per_group, rest = divmod(channels, group)
        yield f"the rest of {channels} input channels in {group} groups", 0, rest
        if node.op_type == "Conv":
            yield "the second axis of its weight", per_group, weight.shape[1]
            yield f"the rest of its output channels in {group} groups", 0, weight.shape[0] % group
            channels = weight.shape[0]
        else:
            yield "the first axis of its weight", channels, weight.shape[0]
            channels = weight.shape[1] * group
    for position in _CHANNEL_PARAMETERS[node.op_type]:
        parameter = constant(input_at(node, position))
        if parameter is not None:
            yield f"the shape of input {position}", (channels,), parameter.shape


def _dims(value: ir.Value | None) -> tuple[object, ...]:
    return () if value is None or value.shape is None else tuple(value.shape)
