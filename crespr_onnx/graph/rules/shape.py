"""Operators that change the shape of a tensor, and Shape, which reads it."""

import math

import numpy as np
import onnx_ir as ir

from crespr_onnx.graph.rules.common import (
    attribute,
    constant,
    dims,
    optional_input,
    rank,
    setting,
    tracked,
)
from crespr_onnx.graph.tracker import ChannelTracker, NotUnderstoodError


def transpose(node: ir.Node, tracker: ChannelTracker) -> None:
    """The channel axis moves with the permutation."""
    axis = tracked(node, tracker)
    order = attribute(node, "perm") or tuple(reversed(range(rank(node.inputs[0]))))
    tracker.set_axis(node.outputs[0], list(order).index(axis.axis), axis.channels)


def squeeze(node: ir.Node, tracker: ChannelTracker) -> None:
    """Takes away axes of length 1 that are listed."""
    axis = tracked(node, tracker)
    if "axes" not in node.attributes and optional_input(node, 1) is None:
        # Fewer channels could be one channel, which it would then take away.
        raise NotUnderstoodError("it lists no axes")
    gone = setting(node, 1, "axes", "the list of axes") % rank(node.inputs[0])
    if axis.axis in gone:
        raise NotUnderstoodError("it takes the channel axis away")
    place = axis.axis - int(np.count_nonzero(gone < axis.axis))
    tracker.set_axis(node.outputs[0], place, axis.channels)


def unsqueeze(node: ir.Node, tracker: ChannelTracker) -> None:
    """Puts in axes of length 1."""
    axis = tracked(node, tracker)
    new = setting(node, 1, "axes", "the list of axes")
    whole = rank(node.inputs[0]) + len(new)
    old = np.setdiff1d(np.arange(whole), new % whole)
    tracker.set_axis(node.outputs[0], int(old[axis.axis]), axis.channels)


def reshape(node: ir.Node, tracker: ChannelTracker) -> None:
    """Follows each channel through a change of shape that leaves the batch axis alone.

    The ids of all positions of one sample are laid out in the old shape and read in the new one;
    where they then vary along one axis only, that is the channel axis. So a flatten repeats each
    channel over its positions. A reshape that cuts the channel axis itself makes heads of it:
    channels of one head then go together.
    """
    axis = tracked(node, tracker)
    if node.op_type == "Reshape":
        constant(optional_input(node, 1), "its shape")
    before, after = dims(node.inputs[0]), dims(node.outputs[0])
    if axis.axis == 0 or not after:
        raise NotUnderstoodError("it changes the batch axis")
    old, new = before[1:], after[1:]
    if None in old or None in new:
        raise NotUnderstoodError("a dimension besides the batch is not fixed")
    old_shape, new_shape = ([d for d in shape if d is not None] for shape in (old, new))
    # With as many elements per sample as before there are as many samples.
    if math.prod(old_shape) != math.prod(new_shape):
        raise NotUnderstoodError("it changes the batch axis")
    column = np.reshape(axis.channels, [-1] + [1] * (len(old_shape) - axis.axis))
    ids = np.broadcast_to(column, old_shape).reshape(new_shape)
    for i, length in enumerate(new_shape):
        along = np.moveaxis(ids, i, 0).reshape(length, -1)
        if (along == along[:, :1]).all():
            tracker.set_axis(node.outputs[0], i + 1, along[:, 0].copy())
            return
    heads = _head_axis(old_shape, new_shape, axis.axis - 1)
    if heads is None:
        raise NotUnderstoodError("it spreads channels over several axes")
    along = np.moveaxis(ids, heads, 0).reshape(new_shape[heads], -1)
    tracker.unite(along.ravel(), np.repeat(along[:, 0], along.shape[1]))
    tracker.set_axis(node.outputs[0], heads + 1, along[:, 0].copy())


def _head_axis(old: list[int], new: list[int], place: int) -> int | None:
    """Which new axis counts heads, where an axis is cut in (heads, size) or (3, heads, size).

    The 3 are query, key and value of attention whose projections are stored as one.
    """
    cut = len(new) - len(old) + 1
    if cut not in (2, 3) or new[:place] != old[:place] or new[place + cut :] != old[place + 1 :]:
        return None
    return place + cut - 2


def shape_of(node: ir.Node, tracker: ChannelTracker) -> None:
    """Harmless while nobody reads the number of channels from it."""
    axis = tracked(node, tracker)
    if node.outputs[0].is_graph_output() or "start" in node.attributes or "end" in node.attributes:
        raise NotUnderstoodError("its number of channels may be read")
    n = rank(node.inputs[0])
    for reader in node.outputs[0].consumers():
        if reader.op_type == "Gather":
            picked = constant(reader.inputs[1], "the dimension that is read") % n
        elif reader.op_type == "Slice" and optional_input(reader, 4) is None:
            start = setting(reader, 1, "starts", "the dimension that is read")
            end = setting(reader, 2, "ends", "the dimension that is read")
            picked = np.arange(n)[int(start[0]) : int(end[0])]
        else:
            raise NotUnderstoodError("its number of channels may be read")
        if np.any(picked == axis.axis):
            raise NotUnderstoodError("its number of channels is read")
