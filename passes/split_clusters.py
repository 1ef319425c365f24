"""Splits weighted edges along their clusters: weights between clusters are no longer stored."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import InPlacePass, PassResult

from crespr_onnx.errors import VerificationError
from crespr_onnx.layout import ChannelGraph, IntArray, Layout, WeightedEdge
from crespr_onnx.passes.edit import new_constant, new_node
from crespr_onnx.passes.surgery import CLUSTERS, LAYER, remove_dead, set_constant, take_over


@dataclass(frozen=True, eq=False)
class SplitClusters(InPlacePass):
    """Turns a Conv into a grouped Conv, and a Gemm or MatMul into a batched MatMul.

    What the model computes stays the same if every weight between two clusters is zero.

    Attributes:
        graph: channels of the model, in which every cluster is contiguous.
        layout: their clusters; no channel may be dropped any more.
    """

    graph: ChannelGraph
    layout: Layout

    def call(self, model: ir.Model) -> PassResult:
        """Splits in place; `modified` tells whether any edge has clusters.

        Raises:
            VerificationError: if clusters of an edge are not contiguous or not equally large.
        """
        edges = {edge.name: edge for edge in self.graph.edges}
        modified = False
        for node in list(model.graph):
            edge = edges.get(node.name or node.outputs[0].name or "")
            if edge is None or node.op_type != edge.op or node.metadata_props.get(CLUSTERS):
                continue
            k = self.layout.edge_clusters(self.graph, edge)
            if k > 1:
                self._check_blocks(edge, edge.in_channels, k)
                self._check_blocks(edge, edge.out_channels, k)
                if node.op_type in ("Conv", "ConvTranspose"):
                    _group(node, edge, k)
                else:
                    _batch(model.graph, node, edge, k)
                modified = True
        return PassResult(model, modified)

    def _check_blocks(self, edge: WeightedEdge, channels: IntArray, k: int) -> None:
        labels = self.layout.labels[channels]
        if len(labels) % k or not np.array_equal(labels, np.repeat(np.arange(k), len(labels) // k)):
            raise VerificationError(
                f"clusters of '{edge.name}' are not {k} equal blocks of neighbouring channels: "
                f"labels {labels.tolist()}"
            )


def _blocks(weight: np.ndarray[Any, Any], edge: WeightedEdge, k: int) -> list[np.ndarray[Any, Any]]:
    """The diagonal blocks of a weight, cluster by cluster."""
    n_in, n_out = weight.shape[edge.in_axis] // k, weight.shape[edge.out_axis] // k
    return [
        weight.take(range(i * n_in, (i + 1) * n_in), axis=edge.in_axis).take(
            range(i * n_out, (i + 1) * n_out), axis=edge.out_axis
        )
        for i in range(k)
    ]


def _weight(node: ir.Node) -> np.ndarray[Any, Any]:
    assert node.inputs[1] is not None
    assert node.inputs[1].const_value is not None
    return node.inputs[1].const_value.numpy()


def _group(node: ir.Node, edge: WeightedEdge, k: int) -> None:
    assert node.inputs[1] is not None
    # ONNX keeps the first axis of the weight whole: outputs of a Conv, inputs of a ConvTranspose.
    set_constant(node.inputs[1], np.concatenate(_blocks(_weight(node), edge, k), axis=0))
    node.attributes["group"] = ir.AttrInt64("group", k)
    node.metadata_props.update({CLUSTERS: str(k), LAYER: edge.name})


def _batch(graph: ir.Graph, node: ir.Node, edge: WeightedEdge, k: int) -> None:
    """x [..., T, k*n] -> [..., k, T, n] @ [k, n, m] + [k, 1, m] -> [..., T, k*m]."""
    data, out = node.inputs[0], node.outputs[0]
    assert data is not None
    alpha, beta = (
        node.attributes[a].as_float() if a in node.attributes else 1.0 for a in ("alpha", "beta")
    )
    blocks = _blocks(_weight(node), edge, k)
    stacked = np.stack([b if edge.in_axis == 0 else b.T for b in blocks])
    weight = new_constant(
        graph, f"{edge.weight}/clusters", stacked * np.float32(alpha).astype(stacked.dtype)
    )
    rank = 2 if node.op_type == "Gemm" else len(data.shape or (0, 0))
    lead = [-1] if rank == 2 else [0] * (rank - 1)
    swap = [*range(rank - 2), rank - 1, rank - 2, rank]
    mark = {LAYER: edge.name}

    def add(op: str, inputs: list[ir.Value | None], attributes: dict[str, Any] | None = None,
            suffix: str = "", **marks: str) -> ir.Value:  # fmt: skip
        made = new_node(
            op, inputs, f"{edge.name}/{op.lower()}{suffix}", attributes, metadata={**mark, **marks}
        )
        node.prepend(made)
        return made.outputs[0]

    def shape(suffix: str, dims: list[int]) -> ir.Value:
        return new_constant(graph, f"{edge.name}/{suffix}", np.array(dims, dtype=np.int64))

    n, m = stacked.shape[1:]
    value = add("Reshape", [data, shape("blocks_in", [*lead, k, n])], suffix="_in")
    value = add("Transpose", [value], {"perm": swap}, suffix="_in")
    value = add("MatMul", [value, weight], **{CLUSTERS: str(k)})
    bias = node.inputs[2] if node.op_type == "Gemm" and len(node.inputs) > 2 else None
    if bias is not None and bias.const_value is not None:
        array = bias.const_value.numpy()
        array = np.broadcast_to(array * np.float32(beta).astype(array.dtype), (k * m,))
        value = add(
            "Add", [value, new_constant(graph, f"{bias.name}/clusters", array.reshape(k, 1, m))]
        )
    value = add("Transpose", [value], {"perm": swap}, suffix="_out")
    value = add("Reshape", [value, shape("blocks_out", [*lead, k * m])], suffix="_out")
    take_over(value, out)
    remove_dead([out])
