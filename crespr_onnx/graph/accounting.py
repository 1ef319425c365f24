"""What a model stores and computes, node by node."""

import math
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from crespr_onnx.graph.random_inputs import Shapes, open_shapes
from crespr_onnx.graph.session import run
from crespr_onnx.graph.signature import signature_of
from crespr_onnx.layout import DEPTHWISE, ChannelGraph

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
# Operators that only show stored numbers in another form.
VIEWS = frozenset(
    {"Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Cast",
     "DequantizeLinear"}
)  # fmt: skip
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

    @property
    def counts(self) -> bool:
        """Whether it is part of what is compressed: `--ratio` and `--mac-ratio` are about it."""
        return self.weights > 0 and not self.depthwise


def node_costs(model: ir.Model, input_shapes: Shapes | None = None) -> tuple[NodeCost, ...]:
    """Cost of every Conv, ConvTranspose, Gemm and MatMul, in the order of the graph.

    A weight that several nodes share is in the cost of each of them.

    Args:
        model: any model; dynamic batches count as 1, batches that the model fixes as they are.
        input_shapes: shapes for inputs with dynamic axes besides the first; where one is missing,
            no node has `macs`.

    Raises:
        UsageError: if an input shape does not fit.
        ModelError: if shapes can only be found in a run, and ONNX Runtime cannot run the model.
    """
    shapes = _known_shapes(model, input_shapes)
    return tuple(_cost(node, shapes) for node in model.graph if _is_weighted(node))


def with_macs(graph: ChannelGraph, costs: Iterable[NodeCost]) -> ChannelGraph:
    """The channels of a model with the multiply-accumulates of its edges filled in.

    Args:
        graph: channels of the model.
        costs: its `node_costs`.
    """
    macs = {cost.name: cost.macs for cost in costs if cost.counts}
    edges = tuple(replace(edge, macs=macs.pop(edge.name, None)) for edge in graph.edges)
    others = [count for count in macs.values() if count is not None]
    opaque = sum(others) if len(others) == len(macs) else None
    return replace(graph, edges=edges, opaque_macs=opaque)


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
    # Inference does not notice a rank that an operator refuses when it runs.
    least = 2 if node.op_type == "Gemm" else 1
    if not data or len(data) < least or weight is None or out is None:
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


def _known_shapes(model: ir.Model, given: Shapes | None) -> dict[str, tuple[int, ...]]:
    """Shapes of what weighted nodes read and write, for a batch of one.

    Inference tells them at once, but gives up on sizes that are computed in the graph; then one
    run on zeros shows them.
    """
    open_ = open_shapes(signature_of(model), 1, given)
    if any(None in shape for shape in open_.values()):
        return {}
    fixed = {name: tuple(size or 0 for size in shape) for name, shape in open_.items()}
    wanted = {
        value.name
        for node in model.graph
        if _is_weighted(node)
        for value in (*node.inputs[:2], *node.outputs)
        if value is not None and value.name
    }
    inferred = _inferred_shapes(model, fixed)
    if wanted <= inferred.keys():
        return inferred
    return {**inferred, **_measured_shapes(model, fixed, wanted - inferred.keys())}


def _inferred_shapes(
    model: ir.Model, inputs: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...]]:
    """The shapes that static inference finds for inputs of these shapes."""
    copy = model.clone()
    for value in copy.graph.inputs:
        value.shape = ir.Shape(inputs[value.name or ""])
    for value in (*copy.graph.outputs, *(v for node in copy.graph for v in node.outputs)):
        value.shape = None
    ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(copy)
    values = ir.convenience.create_value_mapping(copy.graph, include_subgraphs=False)
    return {
        name: tuple(value.shape.numpy())
        for name, value in values.items()
        if value.shape is not None and value.shape.is_static()
    }


def _measured_shapes(
    model: ir.Model, shapes: Mapping[str, tuple[int, ...]], wanted: Set[str]
) -> dict[str, tuple[int, ...]]:
    """The shapes of these values in a run on zeros."""
    inputs = {
        spec.name: np.zeros(shapes[spec.name], spec.dtype) for spec in signature_of(model).inputs
    }
    copy = model.clone()
    copy.graph.outputs[:] = [
        value for node in copy.graph for value in node.outputs if value.name in wanted
    ]
    for value in copy.graph.outputs:
        value.shape = value.type = None
    return {name: array.shape for name, array in run(copy, inputs).items()}
