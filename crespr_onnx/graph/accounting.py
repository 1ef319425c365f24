"""What a model stores and computes, node by node."""

import math
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir

from crespr_onnx.graph.random_inputs import Shapes, open_shapes
from crespr_onnx.graph.session import run
from crespr_onnx.graph.signature import signature_of
from crespr_onnx.layout import DEPTHWISE

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
# Operators that only show stored numbers in another form.
VIEWS = frozenset({"Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Cast"})
CLUSTERS_MARK = "crespr.clusters"


@dataclass(frozen=True)
class NodeCost:
    """Cost of a Conv, ConvTranspose, Gemm or MatMul.

    Attributes:
        name: name of the node.
        op: its operator.
        weights: numbers in its weight tensor; 0 if that is computed, as in attention.
        bytes: size of the weight and the bias.
        macs: multiply-accumulates for one sample; None if an input's shape is not fixed.
        depthwise: whether it is a depthwise convolution, whose weights are not counted by
            `stored_weights`.
    """

    name: str
    op: str
    weights: int
    bytes: int
    macs: int | None
    depthwise: bool


def node_costs(model: ir.Model, input_shapes: Shapes | None = None) -> tuple[NodeCost, ...]:
    """Cost of every Conv, ConvTranspose, Gemm and MatMul, in the order of the graph.

    A weight that several nodes share is in the cost of each of them.

    Args:
        model: any model; dynamic batches count as 1, batches that the model fixes as they are.
        input_shapes: shapes for inputs with dynamic axes besides the first; where one is missing,
            no node has `macs`.

    Raises:
        UsageError: if an input shape does not fit.
        ModelError: if ONNX Runtime cannot run the model, which is how shapes are found.
    """
    shapes = _measured_shapes(model, input_shapes)
    return tuple(_cost(node, shapes) for node in model.graph if _is_weighted(node))


def total_macs(model: ir.Model, input_shapes: Shapes | None = None) -> int | None:
    """Multiply-accumulates of all nodes for one sample; None if any is unknown."""
    macs = [cost.macs for cost in node_costs(model, input_shapes)]
    return None if None in macs else sum(m for m in macs if m is not None)


def stored_weights(model: ir.Model) -> int:
    """Numbers stored in the weights of all weighted edges; zeros count.

    Every Conv, ConvTranspose, Gemm and MatMul with constant weights, each initializer once.
    Depthwise convolutions are not edges and do not count, unless splitting made them: then they
    carry the mark crespr.clusters.
    """
    stored: dict[int, int] = {}
    for node in model.graph:
        if _is_weighted(node) and not _is_depthwise(node):
            source = _weight(node)
            if source is not None:
                stored[id(source)] = _size(source)
    return sum(stored.values())


def _is_weighted(node: ir.Node) -> bool:
    return node.domain == "" and node.op_type in WEIGHTED


def _weight(node: ir.Node) -> ir.Value | None:
    """The stored tensor that a node weighs its input with, or None."""
    inputs = [_stored(value) for value in node.inputs[:2]]
    # Only a product of two tensors is symmetric; a product of two constants weighs nothing.
    if node.op_type in ("Gemm", "MatMul") and inputs[0] is not None:
        return inputs[0] if inputs[1] is None else None
    return inputs[1]


def _stored(value: ir.Value | None) -> ir.Value | None:
    """The initializer or Constant output behind a value, seen through changes of form."""
    while value is not None:
        if ir.convenience.get_const_tensor(value) is not None:
            return None if value.is_graph_input() else value
        node = value.producer()
        if node is None or node.op_type not in VIEWS:
            return None
        value = node.inputs[0]
    return None


def _size(value: ir.Value) -> int:
    tensor = ir.convenience.get_const_tensor(value)
    return 0 if tensor is None else math.prod(tensor.shape.numpy())


def _nbytes(value: ir.Value | None) -> int:
    source = _stored(value)
    tensor = None if source is None else ir.convenience.get_const_tensor(source)
    return 0 if tensor is None else tensor.nbytes


def _is_depthwise(node: ir.Node) -> bool:
    """As the channel analysis has it: one input channel for each of its groups, and one output."""
    if node.op_type != "Conv" or CLUSTERS_MARK in node.metadata_props:
        return False
    groups = node.attributes.get_int("group", 1)
    several = groups > 1 or DEPTHWISE in node.metadata_props
    source = _stored(node.inputs[1])
    tensor = None if source is None else ir.convenience.get_const_tensor(source)
    return tensor is not None and several and tuple(tensor.shape[:2]) == (groups, 1)


def _cost(node: ir.Node, shapes: dict[str, tuple[int, ...]]) -> NodeCost:
    source = _weight(node)
    bias = node.inputs[2] if node.op_type != "MatMul" and len(node.inputs) > 2 else None
    return NodeCost(
        name=node.name or "",
        op=node.op_type,
        weights=0 if source is None else _size(source),
        bytes=_nbytes(source) + _nbytes(bias),
        macs=_macs(node, shapes),
        depthwise=_is_depthwise(node),
    )


def _macs(node: ir.Node, shapes: dict[str, tuple[int, ...]]) -> int | None:
    data, weight = (shapes.get(v.name or "") if v is not None else None for v in node.inputs[:2])
    out = shapes.get(node.outputs[0].name or "")
    if data is None or weight is None or out is None:
        return None
    match node.op_type:
        case "Conv":  # weight [out, in/group, *kernel]: each output element reads one filter
            return math.prod(out) * math.prod(weight[1:])
        case "ConvTranspose":  # weight [in, out/group, *kernel]: each input element writes it once
            return math.prod(data) * math.prod(weight[1:])
        case "Gemm":
            return math.prod(out) * data[0 if node.attributes.get_int("transA", 0) else 1]
        case _:  # MatMul, perhaps batched: the inner length is the data's last axis
            return math.prod(out) * data[-1]


def _measured_shapes(model: ir.Model, given: Shapes | None) -> dict[str, tuple[int, ...]]:
    """Shapes of what weighted nodes read and write, seen in one run on zeros.

    Static shape inference gives up on sizes that are computed in the graph; a run does not.
    """
    open_ = open_shapes(signature_of(model), 1, given)
    if any(None in shape for shape in open_.values()):
        return {}
    inputs = {
        spec.name: np.zeros([size or 0 for size in open_[spec.name]], spec.dtype)
        for spec in signature_of(model).inputs
    }
    wanted = {
        value.name: value
        for node in model.graph
        if _is_weighted(node)
        for value in (*node.inputs[:2], *node.outputs)
        if value is not None and value.name
    }
    proto = ir.to_proto(model)
    del proto.graph.output[:]
    shapes: dict[str, tuple[int, ...]] = {name: array.shape for name, array in inputs.items()}
    for name, value in wanted.items():
        if value.is_initializer() and value.const_value is not None:
            shapes[name] = tuple(value.const_value.shape.numpy())
        elif name not in inputs:
            proto.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    if proto.graph.output:
        shapes.update((name, array.shape) for name, array in run(proto, inputs).items())
    return shapes
