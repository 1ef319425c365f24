"""Products of two activations, and attention: heads are channels that only meet themselves.

A reshape that cuts a projection into heads ties the channels of each (`rules.shape.reshape`); from
there on the axis of the heads is the channel axis, up to the projection that reads them again.
"""

import onnx_ir as ir

from crespr_onnx.graph.rules.common import is_constant, rank, require_single_output, tracked
from crespr_onnx.graph.rules.weighted import matmul as weighted_matmul
from crespr_onnx.graph.tracker import ChannelTracker, NotUnderstoodError


def matmul(node: ir.Node, tracker: ChannelTracker) -> None:
    """A weighted edge with a constant on the right, else a product within each channel."""
    if is_constant(node.inputs[1]):
        weighted_matmul(node, tracker)
        return
    axes = [axis for v in node.inputs if (axis := tracker.axis_of(v)) is not None]
    if len(axes) < 2:
        raise NotUnderstoodError("it has no constant matrix on the right")
    left, right = axes
    # Counted from the right, as broadcasting does; the last two are the matrices.
    places = {axis.axis - rank(value) for axis, value in zip(axes, node.inputs, strict=True)}
    if len(places) != 1:
        raise NotUnderstoodError("its operands carry channels on different axes")
    place = places.pop()
    if place >= -2:
        raise NotUnderstoodError("it multiplies matrices of channels")
    if len(left.channels) != len(right.channels):
        raise NotUnderstoodError("it repeats the channels of one operand")
    tracker.unite(left.channels, right.channels)
    tracker.set_axis(node.outputs[0], rank(node.outputs[0]) + place, left.channels)


def attention(node: ir.Node, tracker: ChannelTracker) -> None:
    """Attention with query, key and value of shape [batch, heads, length, size]."""
    axes = [tracked(node, tracker, i) for i in range(3)]
    if any(
        rank(value) != 4 or axis.axis != 1
        for value, axis in zip(node.inputs[:3], axes, strict=True)
    ):
        raise NotUnderstoodError("its heads are not an axis of their own")
    if any(tracker.axis_of(value) is not None for value in node.inputs[3:]):
        raise NotUnderstoodError("a further input carries channels")
    if len({len(axis.channels) for axis in axes}) != 1:
        raise NotUnderstoodError("several heads of the query share one of the key")
    require_single_output(node)
    for other in axes[1:]:
        tracker.unite(axes[0].channels, other.channels)
    tracker.set_axis(node.outputs[0], 1, axes[0].channels)


def recurrent(node: ir.Node, tracker: ChannelTracker) -> None:
    """LSTM, GRU and RNN feed all of their outputs back into all of their gates."""
    tracked(node, tracker)
    raise NotUnderstoodError("its gates mix all channels")
