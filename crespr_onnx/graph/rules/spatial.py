"""Operators that work on space and leave channels alone."""

from typing import Any

import numpy as np
import onnx_ir as ir

from crespr_onnx.graph.rules.common import (
    attribute,
    constant,
    opset,
    optional_input,
    rank,
    require_single_output,
    setting,
    tracked,
)
from crespr_onnx.graph.tracker import ChannelTracker, NotUnderstoodError
from crespr_onnx.layout import ChannelAxis

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
    require_single_output(node)
    tracker.set_axis(node.outputs[0], 1, axis.channels)


def reduction(node: ir.Node, tracker: ChannelTracker) -> None:
    """Reduces other axes than that of the channels."""
    axis = tracked(node, tracker)
    n = rank(node.inputs[0])
    over = {int(a) % n for a in setting(node, 1, "axes", "the list of axes")}
    if axis.axis in over or not over:
        raise NotUnderstoodError("it reduces over the channels")
    gone = 0 if attribute(node, "keepdims", 1) else sum(a < axis.axis for a in over)
    tracker.set_axis(node.outputs[0], axis.axis - gone, axis.channels)


def resize(node: ir.Node, tracker: ChannelTracker) -> None:
    """Resizes space, by constant scales or, on listed axes, to constant sizes."""
    axis = tracked(node, tracker)
    if attribute(node, "coordinate_transformation_mode") == "tf_crop_and_resize":
        raise NotUnderstoodError("it crops")
    listed = attribute(node, "axes")
    if listed is not None:
        if axis.axis in [a % rank(node.inputs[0]) for a in listed]:
            raise NotUnderstoodError("it resizes the channels")
    else:
        # Opset 10 has no region of interest before the scales.
        scales = constant(optional_input(node, 1 if opset(node) < 11 else 2), "its scale")
        _require_one(scales, axis, node)
    tracker.set_axis(node.outputs[0], axis.axis, axis.channels)


def upsample(node: ir.Node, tracker: ChannelTracker) -> None:
    """Resize under its name before opset 10; scales were an attribute at first."""
    axis = tracked(node, tracker)
    _require_one(setting(node, 1, "scales", "its scale"), axis, node)
    tracker.set_axis(node.outputs[0], axis.axis, axis.channels)


def _require_one(scales: np.ndarray[Any, Any], axis: ChannelAxis, node: ir.Node) -> None:
    if scales.size != rank(node.inputs[0]):
        raise NotUnderstoodError("it gives sizes instead of scales")
    if scales[axis.axis] != 1:
        raise NotUnderstoodError("it resizes the channels")
