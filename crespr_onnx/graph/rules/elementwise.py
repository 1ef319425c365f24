"""Operators that keep every channel to itself."""

import onnx_ir as ir

from crespr_onnx.graph.rules.common import (
    dims,
    is_constant,
    rank,
    require_single_output,
    tracked,
)
from crespr_onnx.graph.tracker import ChannelTracker, NotUnderstoodError

UNARY = (
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Cast", "Ceil", "Celu", "Clip", "Cos",
    "Cosh", "Dropout", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity",
    "IsInf", "IsNaN", "LeakyRelu", "Log", "Mish", "Neg", "Not", "Reciprocal", "Relu", "Round",
    "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Swish",
    "Tan", "Tanh", "ThresholdedRelu",
)  # fmt: skip
BROADCAST = (
    "Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean",
    "Min", "Mod", "Mul", "Or", "PRelu", "Pow", "Sub", "Sum", "Where", "Xor",
)  # fmt: skip


def unary(node: ir.Node, tracker: ChannelTracker) -> None:
    """Same channels out as in; further inputs are scalars (Clip's bounds, Dropout's ratio)."""
    axis = tracked(node, tracker)
    if any(tracker.axis_of(v) is not None for v in node.inputs[1:]):
        raise NotUnderstoodError("a further input carries channels")
    require_single_output(node)
    tracker.set_axis(node.outputs[0], axis.axis, axis.channels)


def broadcast(node: ir.Node, tracker: ChannelTracker) -> None:
    """Element-wise with numpy broadcasting: ties the channels of all operands."""
    out_rank = max(rank(v) for v in node.inputs)
    operands = [(v, tracker.axis_of(v)) for v in node.inputs if v is not None]
    # Counted from the right, as broadcasting does.
    places = {axis.axis - rank(v) for v, axis in operands if axis is not None}
    if len(places) != 1:
        raise NotUnderstoodError("its operands carry channels on different axes")
    place = places.pop()
    axes = [axis for _, axis in operands if axis is not None]
    length = max(len(axis.channels) for axis in axes)
    whole = [axis.channels for axis in axes if len(axis.channels) == length]
    for one in axes:
        if len(one.channels) != length:  # length 1, repeated over the channels of the others
            tracker.freeze(one.channels, f"{node.op_type} '{node.name}' repeats it over channels")
    channels = whole[0]
    for other in whole[1:]:
        tracker.unite(channels, other)
    for value, axis in operands:
        if axis is not None or rank(value) < -place:
            continue
        here = dims(value)[place]
        if here == 1 and length > 1:
            continue
        if not is_constant(value):
            raise NotUnderstoodError(f"operand '{value.name}' has no known channel axis")
        if here == length:
            tracker.bind_constant(value, rank(value) + place, channels)
        else:
            raise NotUnderstoodError(f"operand '{value.name}' changes the number of channels")
    tracker.set_axis(node.outputs[0], out_rank + place, channels)
