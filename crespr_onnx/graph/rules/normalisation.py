"""Operators that normalise: over each channel, which is fine, or over several, which is not.

Where channels are normalised together, a channel that goes changes those that stay, so the small
model could not compute what the masked one does.
"""

import onnx_ir as ir

from crespr_onnx.graph.rules.common import (
    attribute,
    is_constant,
    opset,
    rank,
    require_single_output,
    tracked,
)
from crespr_onnx.graph.tracker import ChannelTracker, NotUnderstoodError

_TOGETHER = "it normalises over the channels"


def batch_normalization(node: ir.Node, tracker: ChannelTracker) -> None:
    """Scale, bias, mean and variance follow the channels of the input."""
    if attribute(node, "training_mode", 0):
        raise NotUnderstoodError("it is in training mode")
    instance_normalization(node, tracker)


def instance_normalization(node: ir.Node, tracker: ChannelTracker) -> None:
    """Scale and bias follow the channels of the input."""
    axis = tracked(node, tracker)
    if axis.axis != 1:
        raise NotUnderstoodError("the channels of its input are not on axis 1")
    require_single_output(node)
    for value in node.inputs[1:]:
        if value is None or not is_constant(value):
            raise NotUnderstoodError("its parameters are not constants")
        tracker.bind_constant(value, 0, axis.channels)
    tracker.set_axis(node.outputs[0], 1, axis.channels)


def layer_normalization(node: ir.Node, tracker: ChannelTracker) -> None:
    """Keeps channels apart if they lie before the axes that are normalised."""
    axis = tracked(node, tracker)
    if axis.axis >= attribute(node, "axis", -1) % rank(node.inputs[0]):
        raise NotUnderstoodError(_TOGETHER)
    require_single_output(node)
    tracker.set_axis(node.outputs[0], axis.axis, axis.channels)


def group_normalization(node: ir.Node, tracker: ChannelTracker) -> None:
    """Normalises groups of channels."""
    tracked(node, tracker)
    raise NotUnderstoodError("it normalises over groups of channels")


def lp_normalization(node: ir.Node, tracker: ChannelTracker) -> None:
    """Keeps channels apart unless it normalises over them."""
    axis = tracked(node, tracker)
    if axis.axis == attribute(node, "axis", -1) % rank(node.inputs[0]):
        raise NotUnderstoodError(_TOGETHER)
    tracker.set_axis(node.outputs[0], axis.axis, axis.channels)


def softmax(node: ir.Node, tracker: ChannelTracker) -> None:
    """Keeps channels apart unless it normalises over them."""
    axis = tracked(node, tracker)
    # Before opset 13 every axis from `axis` on was normalised over.
    flattens = opset(node) < 13
    over = attribute(node, "axis", 1 if flattens else -1) % rank(node.inputs[0])
    if axis.axis == over or (flattens and axis.axis > over):
        raise NotUnderstoodError(_TOGETHER)
    tracker.set_axis(node.outputs[0], axis.axis, axis.channels)
