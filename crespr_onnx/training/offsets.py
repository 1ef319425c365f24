"""Where the constant that is added to the answers of an edge lives in the model."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import onnx_ir as ir

from crespr_onnx.layout import ChannelGraph, WeightedEdge


class Kind(Enum):
    """What a constant that is added to the answers of an edge is to the model."""

    BIAS = "the edge's own bias"
    ADDED = "an Add that follows"
    MEAN = "the mean of the BatchNormalization that follows, which is subtracted"


@dataclass(frozen=True)
class Offset:
    """The constant that is added to the answers of an edge.

    Attributes:
        initializer: its name.
        kind: what it is.
        variance: name of the variance that goes with a mean, else empty.
    """

    initializer: str
    kind: Kind
    variance: str = ""


def find_offsets(model: ir.Model, graph: ChannelGraph) -> Mapping[str, Offset]:
    """The offset of each edge that has one of its own, by the name of the edge."""
    nodes = {node.name or node.outputs[0].name: node for node in model.graph}
    found = {edge.name: _offset(nodes[edge.name], edge) for edge in graph.edges}
    return {name: offset for name, offset in found.items() if offset is not None}


def _offset(node: ir.Node, edge: WeightedEdge) -> Offset | None:
    n = len(edge.out_channels)
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        scales = (node.attributes.get(name) for name in ("alpha", "beta"))
        plain = all(scale is None or scale.as_float() == 1.0 for scale in scales)
        return (
            Offset(_name(node.inputs[2]), Kind.BIAS) if plain and _own(node.inputs[2], n) else None
        )
    output = node.outputs[0]
    uses = list(output.uses())
    if len(uses) != 1 or output.is_graph_output():
        return None
    follower, index = uses[0].node, uses[0].idx
    if follower.op_type == "Add" and not edge.is_convolution:
        other = follower.inputs[1 - index]
        return Offset(_name(other), Kind.ADDED) if _own(other, n) else None
    by_channel = edge.op == "Conv" or (output.shape is not None and len(output.shape) == 2)
    if follower.op_type == "BatchNormalization" and index == 0 and by_channel:
        mean, variance = follower.inputs[3], follower.inputs[4]
        if _own(mean, n) and _own(variance, n):
            return Offset(_name(mean), Kind.MEAN, _name(variance))
    return None


def _own(value: ir.Value | None, n: int) -> bool:
    """Whether a value is a constant with one number per output and nobody else reads it."""
    return (
        value is not None
        and value.is_initializer()
        and len(value.uses()) == 1
        and value.const_value is not None
        and tuple(value.const_value.shape) == (n,)
    )


def _name(value: ir.Value | None) -> str:
    assert value is not None
    return value.name or ""
