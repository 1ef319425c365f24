"""Operators that change the shape of a tensor, and Shape, which reads it."""

import math

import numpy as np
import onnx_ir as ir

from crespr_onnx.graph.rules.common import attribute, constant, dims, optional_input, rank, tracked
from crespr_onnx.graph.tracker import ChannelTracker, NotUnderstoodError


def transpose(node: ir.Node, tracker: ChannelTracker) -> None:
    """The channel axis moves with the permutation."""
    axis = tracked(node, tracker)
    order = attribute(node, "perm") or tuple(reversed(range(rank(node.inputs[0]))))
    tracker.set_axis(node.outputs[0], list(order).index(axis.axis), axis.channels)


def reshape(node: ir.Node, tracker: ChannelTracker) -> None:
    """Follows each channel through a change of shape that leaves the batch axis alone.

    The ids of all positions of one sample are laid out in the old shape and read in the new one;
    where they then vary along one axis only, that is the channel axis. So a flatten repeats each
    channel over its positions, and a reshape that cuts channels in two axes is not understood.
    """
    axis = tracked(node, tracker)
    if node.op_type == "Reshape":
        constant(optional_input(node, 1), "its shape")
    elif node.op_type == "Squeeze" and not node.attributes and optional_input(node, 1) is None:
        # Fewer channels could be one channel, which it would then take away.
        raise NotUnderstoodError("it lists no axes")
    before, after = dims(node.inputs[0]), dims(node.outputs[0])
    if axis.axis == 0 or not after or before[0] != after[0]:
        raise NotUnderstoodError("it changes the batch axis")
    old, new = before[1:], after[1:]
    if None in old or None in new:
        raise NotUnderstoodError("a dimension besides the batch is not fixed")
    old_shape, new_shape = ([d for d in shape if d is not None] for shape in (old, new))
    if math.prod(old_shape) != math.prod(new_shape):
        raise NotUnderstoodError("it changes the batch axis")
    column = np.reshape(axis.channels, [-1] + [1] * (len(old_shape) - axis.axis))
    ids = np.broadcast_to(column, old_shape).reshape(new_shape)
    for i, length in enumerate(new_shape):
        along = np.moveaxis(ids, i, 0).reshape(length, -1)
        if (along == along[:, :1]).all():
            tracker.set_axis(node.outputs[0], i + 1, along[:, 0].copy())
            return
    raise NotUnderstoodError("it spreads channels over several axes")


def shape_of(node: ir.Node, tracker: ChannelTracker) -> None:
    """Harmless while nobody reads the number of channels from it."""
    axis = tracked(node, tracker)
    if node.outputs[0].is_graph_output() or "start" in node.attributes or "end" in node.attributes:
        raise NotUnderstoodError("its number of channels may be read")
    for reader in node.outputs[0].consumers():
        if reader.op_type != "Gather":
            raise NotUnderstoodError("its number of channels may be read")
        picked = constant(reader.inputs[1], "the dimension that is read")
        if np.any(picked % rank(node.inputs[0]) == axis.axis):
            raise NotUnderstoodError("its number of channels is read")
