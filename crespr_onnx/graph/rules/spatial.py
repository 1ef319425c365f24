"""Operators that work on space and leave channels alone."""

import onnx_ir as ir

from crespr_onnx.graph.rules.common import attribute, constant, optional_input, rank, tracked
from crespr_onnx.graph.tracker import ChannelTracker, NotUnderstoodError

POOLING = ("AveragePool", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "LpPool", "MaxPool")
REDUCTIONS = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
    "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare",
)  # fmt: skip


def pooling(node: ir.Node, tracker: ChannelTracker) -> None:
    """Pools over space, channels on axis 1."""
    axis = tracked(node, tracker)
    if axis.axis != 1:
        raise NotUnderstoodError("the channels of its input are not on axis 1")
    if len(node.outputs) > 1:
        raise NotUnderstoodError("its indices are used")
    tracker.set_axis(node.outputs[0], 1, axis.channels)


def reduction(node: ir.Node, tracker: ChannelTracker) -> None:
    """Reduces other axes than that of the channels."""
    axis = tracked(node, tracker)
    given = attribute(node, "axes")
    if given is None:
        given = constant(optional_input(node, 1), "the list of axes").tolist()
    n = rank(node.inputs[0])
    over = {a % n for a in given}
    if axis.axis in over or not over:
        raise NotUnderstoodError("it reduces over the channels")
    gone = 0 if attribute(node, "keepdims", 1) else sum(a < axis.axis for a in over)
    tracker.set_axis(node.outputs[0], axis.axis - gone, axis.channels)


def resize(node: ir.Node, tracker: ChannelTracker) -> None:
    """Resizes space by constant scales."""
    axis = tracked(node, tracker)
    scales = constant(optional_input(node, 2), "its scale")
    if attribute(node, "axes") is not None or scales.size != rank(node.inputs[0]):
        raise NotUnderstoodError("it gives sizes instead of scales")
    if scales[axis.axis] != 1:
        raise NotUnderstoodError("it resizes the channels")
    tracker.set_axis(node.outputs[0], axis.axis, axis.channels)
