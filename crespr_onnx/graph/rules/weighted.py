"""Weighted edges: Conv, ConvTranspose, Gemm and MatMul with constant weights."""

import math

import numpy as np
import onnx_ir as ir

from crespr_onnx.graph.rules.common import (
    attribute,
    constant,
    dims,
    is_constant,
    optional_input,
    rank,
)
from crespr_onnx.graph.tracker import ChannelTracker, NotUnderstoodError
from crespr_onnx.layout import DEPTHWISE, IntArray, WeightedEdge


def conv(node: ir.Node, tracker: ChannelTracker) -> None:
    """Convolution: an edge, or, when depthwise, a tie."""
    shape = _weight_shape(node)
    groups = attribute(node, "group", 1)
    several = groups > 1 or DEPTHWISE in node.metadata_props
    if several and shape[1] == 1 and groups == shape[0]:
        _depthwise(node, tracker)
    else:
        _convolution(node, tracker, n_in=shape[1], n_out=shape[0], in_axis=1, out_axis=0)


def conv_transpose(node: ir.Node, tracker: ChannelTracker) -> None:
    """Transposed convolution; its weight has the input channels first."""
    shape = _weight_shape(node)
    _convolution(node, tracker, n_in=shape[0], n_out=shape[1], in_axis=0, out_axis=1)


def gemm(node: ir.Node, tracker: ChannelTracker) -> None:
    """Matrix product with a constant right side and perhaps a bias."""
    shape = _weight_shape(node)
    if attribute(node, "transA", 0):
        raise NotUnderstoodError("its input is transposed (transA)")
    out_axis = 0 if attribute(node, "transB", 0) else 1
    inputs = _input_channels(node, tracker, shape[1 - out_axis], axis=1)
    outputs = tracker.fresh(shape[out_axis])
    bias = optional_input(node, 2)
    if bias is not None:
        sizes = dims(bias)
        if not is_constant(bias):
            _freeze_computed_bias(node, tracker, outputs)
        elif len(sizes) == 2 and sizes[0] != 1:
            tracker.freeze(outputs, f"the bias of Gemm '{node.name}' differs between samples")
        elif sizes and sizes[-1] == len(outputs) and len(outputs) > 1:
            tracker.bind_constant(bias, len(sizes) - 1, outputs)
    _add(node, tracker, inputs, outputs, in_axis=1 - out_axis, out_axis=out_axis, kernel=1)
    tracker.set_axis(node.outputs[0], 1, outputs)


def matmul(node: ir.Node, tracker: ChannelTracker) -> None:
    """Product with a constant matrix on the right, over the last axis."""
    shape = _weight_shape(node)
    last = rank(node.inputs[0]) - 1
    if last < 1:
        raise NotUnderstoodError("its input is a vector")
    inputs = _input_channels(node, tracker, shape[0], axis=last)
    outputs = tracker.fresh(shape[1])
    _add(node, tracker, inputs, outputs, in_axis=0, out_axis=1, kernel=1)
    tracker.set_axis(node.outputs[0], last, outputs)


def _weight_shape(node: ir.Node) -> tuple[int, ...]:
    shape: tuple[int, ...] = constant(optional_input(node, 1), "its weight").shape
    if (len(shape) < 3) != (node.op_type in ("Gemm", "MatMul")) or len(shape) < 2:
        raise NotUnderstoodError(f"its weight has {len(shape)} dimensions")
    return shape


def _depthwise(node: ir.Node, tracker: ChannelTracker) -> None:
    axis = tracker.axis_of(node.inputs[0])
    if axis is None or axis.axis != 1:
        raise NotUnderstoodError("the channels of its input are not known to be on axis 1")
    bias = optional_input(node, 2)
    if bias is not None and not is_constant(bias):
        raise NotUnderstoodError("its bias is not a constant")
    weight = node.inputs[1]
    assert weight is not None
    for value in (weight, bias):
        if value is not None:
            tracker.bind_constant(value, 0, axis.channels)
    tracker.add_depthwise(weight)
    tracker.set_axis(node.outputs[0], 1, axis.channels)


def _convolution(
    node: ir.Node, tracker: ChannelTracker, n_in: int, n_out: int, in_axis: int, out_axis: int
) -> None:
    groups = attribute(node, "group", 1)
    bias = optional_input(node, 2)
    reason = None
    if groups > 1:
        reason = f"{node.op_type} '{node.name}' is already grouped (group={groups})"
    whole_in, whole_out = (n_in * groups, n_out) if in_axis == 1 else (n_in, n_out * groups)
    inputs = _input_channels(node, tracker, whole_in, axis=1)
    outputs = tracker.fresh(whole_out)
    if reason is not None:
        tracker.freeze(inputs, reason)
        tracker.freeze(outputs, reason)
    elif is_constant(bias) and bias is not None:
        tracker.bind_constant(bias, 0, outputs)
    if bias is not None and not is_constant(bias):
        _freeze_computed_bias(node, tracker, outputs)
    kernel = math.prod(_weight_shape(node)[2:])
    # One group's inputs, so that inputs x outputs x kernel is what a grouped weight stores.
    _add(node, tracker, inputs[:n_in], outputs[:n_out], in_axis, out_axis, kernel, frozen=reason)
    tracker.set_axis(node.outputs[0], 1, outputs)


def _freeze_computed_bias(node: ir.Node, tracker: ChannelTracker, outputs: IntArray) -> None:
    reason = f"the bias of {node.op_type} '{node.name}' is computed"
    tracker.freeze(outputs, reason)
    bias = tracker.axis_of(node.inputs[2])
    if bias is not None:
        tracker.freeze(bias.channels, reason)


def _input_channels(node: ir.Node, tracker: ChannelTracker, n: int, axis: int) -> IntArray:
    """Channels that an edge reads; frozen ones where the input's are not known."""
    value = node.inputs[0]
    assert value is not None
    known = tracker.axis_of(value)
    if known is None:
        what = "is a graph input" if value.is_graph_input() else "has no known channels"
        return tracker.fresh(n, frozen=f"'{value.name}' {what}")
    if known.axis != axis:
        reason = f"{node.op_type} '{node.name}' mixes another axis of it"
        tracker.freeze(known.channels, reason)
        return tracker.fresh(n, frozen=reason)
    return known.channels


def _add(
    node: ir.Node,
    tracker: ChannelTracker,
    inputs: IntArray,
    outputs: IntArray,
    in_axis: int,
    out_axis: int,
    kernel: int,
    frozen: str | None = None,
) -> None:
    weight = node.inputs[1]
    assert weight is not None
    assert weight.name is not None
    if frozen is None:
        tracker.bind_constant(weight, in_axis, inputs)
        tracker.bind_constant(weight, out_axis, outputs)
    tracker.add_edge(
        WeightedEdge(
            name=node.name or node.outputs[0].name or "",
            op=node.op_type,
            weight=weight.name,
            in_axis=in_axis,
            out_axis=out_axis,
            in_channels=inputs,
            out_channels=outputs,
            kernel=kernel,
            positions=_positions(node.outputs[0], len(outputs)),
            frozen=frozen,
        )
    )


def _positions(value: ir.Value, n_out: int) -> int:
    """Output positions per sample; a dimension that is not fixed counts as 1."""
    if value.shape is None:
        return 1
    fixed = [d for d in list(value.shape)[1:] if isinstance(d, int)]
    return max(1, int(np.prod(fixed)) // max(n_out, 1))
