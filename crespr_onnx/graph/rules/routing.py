"""Operators that move whole channels: Concat, Split, Slice, Pad and Gather.

On another axis than that of the channels they only pass channels on.
"""

from typing import Any

import numpy as np
import onnx_ir as ir

from crespr_onnx.graph.rules.common import (
    attribute,
    constant,
    dims,
    is_constant,
    optional_input,
    rank,
    setting,
    tracked,
)
from crespr_onnx.graph.tracker import ChannelTracker, NotUnderstoodError
from crespr_onnx.layout import ZERO, ChannelAxis, IntArray


def concat(node: ir.Node, tracker: ChannelTracker) -> None:
    """Joins the channels of its inputs."""
    axes = [tracked(node, tracker, i) for i in range(len(node.inputs))]
    if len({a.axis for a in axes}) != 1:
        raise NotUnderstoodError("its inputs carry channels on different axes")
    channels = axes[0].channels
    if attribute(node, "axis") % rank(node.inputs[0]) == axes[0].axis:
        channels = np.concatenate([a.channels for a in axes])
    else:
        for other in axes[1:]:
            tracker.unite(channels, other.channels)
    tracker.set_axis(node.outputs[0], axes[0].axis, channels)


def split(node: ir.Node, tracker: ChannelTracker) -> None:
    """Deals its input's channels out to its outputs."""
    axis = tracked(node, tracker)
    source = _source(node)
    if attribute(node, "axis", 0) % rank(source) != axis.axis:
        for output in node.outputs:
            tracker.set_axis(output, axis.axis, axis.channels)
        return
    sizes = [dims(output)[axis.axis] or 0 for output in node.outputs]
    if sum(sizes) != len(axis.channels):
        raise NotUnderstoodError("its sizes are not known")
    for output, part in zip(node.outputs, _consecutive(sizes), strict=True):
        tracker.move(source, output, part)


def slice_(node: ir.Node, tracker: ChannelTracker) -> None:
    """Takes a range of channels, or a range of other axes."""
    axis = tracked(node, tracker)
    starts = setting(node, 1, "starts", "where it starts")
    ends = setting(node, 2, "ends", "where it ends")
    over, step = np.arange(len(starts)), np.ones_like(starts)
    if "axes" in node.attributes or optional_input(node, 3) is not None:
        over = setting(node, 3, "axes", "the list of axes")
    if optional_input(node, 4) is not None:
        step = constant(node.inputs[4], "the step")
    over = over % rank(node.inputs[0])
    sizes = dims(node.inputs[0])
    bounds = {
        int(a): (int(first), int(last), int(stride))
        for a, first, last, stride in zip(over, starts, ends, step, strict=True)
        if not _takes_all(sizes[a], int(first), int(last), int(stride))
    }
    if axis.axis not in bounds:
        _pass_on(node, tracker, axis)
        return
    _only_channels(np.array(list(bounds)), axis)
    first, last, stride = bounds[axis.axis]
    # Bounds beyond either end mean the same to Python as to ONNX.
    part = np.arange(len(axis.channels), dtype=np.int64)[first : last : stride or 1]
    if not len(part) or not stride:
        raise NotUnderstoodError("it takes no channels")
    tracker.move(_source(node), node.outputs[0], part)


def _takes_all(size: int | None, first: int, last: int, step: int) -> bool:
    """Whether a range takes a whole axis; exporters list axes that they leave alone."""
    far = last >= size if size is not None else last >= np.iinfo(np.int32).max
    return step == 1 and first == 0 and far


def pad(node: ir.Node, tracker: ChannelTracker) -> None:
    """Adds channels of zeros, or pads other axes."""
    axis = tracked(node, tracker)
    if optional_input(node, 3) is not None:
        raise NotUnderstoodError("it lists its axes")
    amounts = setting(node, 1, "pads", "its amount")
    if amounts.size != 2 * rank(node.inputs[0]):
        raise NotUnderstoodError("it does not pad every axis")
    pads = amounts.reshape(2, -1)
    before, after = (int(amount) for amount in pads[:, axis.axis])
    if not before and not after:
        _pass_on(node, tracker, axis)
        return
    _only_channels(np.flatnonzero(pads.any(axis=0)), axis)
    given = "value" in node.attributes or optional_input(node, 2) is not None
    zero = not given or not np.any(setting(node, 2, "value", "its value"))
    if attribute(node, "mode", "constant") != "constant" or not zero:
        raise NotUnderstoodError("it pads the channels with something else than zeros")
    if min(before, after) < 0:
        raise NotUnderstoodError("it cuts channels off")
    positions = np.pad(np.arange(len(axis.channels)), (before, after), constant_values=ZERO)
    tracker.move(_source(node), node.outputs[0], positions)


def gather(node: ir.Node, tracker: ChannelTracker) -> None:
    """Picks channels by a constant list, passes them on, or looks vectors up in a table.

    The list itself can be shortened and reordered, so what is picked from a tensor whose channels
    are not known are channels of their own.
    """
    source = _source(node)
    over = attribute(node, "axis", 0) % rank(source)
    axis = tracker.axis_of(source)
    if axis is not None and over != axis.axis:
        added = rank(node.inputs[1]) - 1 if over < axis.axis else 0
        tracker.set_axis(node.outputs[0], axis.axis + added, axis.channels)
        return
    if is_constant(source) and over == 0 and rank(source) == 2 and not is_constant(node.inputs[1]):
        vector = tracker.fresh(constant(source, "its table").shape[1])
        tracker.bind_constant(source, 1, vector)
        tracker.set_axis(node.outputs[0], rank(node.inputs[1]), vector)
        return
    indices = constant(optional_input(node, 1), "its list")
    if indices.ndim != 1 or over == 0:
        raise NotUnderstoodError("it does not pick a list of channels")
    if axis is not None:
        tracker.move(source, node.outputs[0], indices % len(axis.channels))
        return
    channels = tracker.fresh(len(indices))
    if node.inputs[1] is not None:
        tracker.bind_constant(node.inputs[1], 0, channels)
    tracker.set_axis(node.outputs[0], over, channels)


def _source(node: ir.Node) -> ir.Value:
    assert node.inputs[0] is not None
    return node.inputs[0]


def _consecutive(sizes: list[int]) -> list[IntArray]:
    return np.split(np.arange(sum(sizes), dtype=np.int64), np.cumsum(sizes)[:-1])


def _pass_on(node: ir.Node, tracker: ChannelTracker, axis: ChannelAxis) -> None:
    if rank(node.outputs[0]) != rank(node.inputs[0]):
        raise NotUnderstoodError("it removes an axis")
    tracker.set_axis(node.outputs[0], axis.axis, axis.channels)


def _only_channels(worked_on: np.ndarray[Any, Any], axis: ChannelAxis) -> None:
    if list(worked_on) != [axis.axis]:
        raise NotUnderstoodError("it works on the channels and on another axis at once")
