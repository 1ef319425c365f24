"""Splits weighted edges along their clusters: weights between clusters are no longer stored."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import InPlacePass, PassResult

from crespr_onnx.errors import VerificationError
from crespr_onnx.layout import ChannelGraph, IntArray, Layout, WeightedEdge
from crespr_onnx.passes.batched_matmul import cluster_swap, kept_lead
from crespr_onnx.passes.edit import Editor
from crespr_onnx.passes.surgery import (
    CLUSTERS,
    LAYER,
    constant,
    input_at,
    remove_dead,
    set_constant,
    take_over,
)


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
        work = _Splitter(Editor(model))
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
                    work.group(node, edge, k)
                else:
                    work.batch(node, edge, k)
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


def _float(node: ir.Node, name: str) -> float:
    return node.attributes.get_float(name, 1.0)


@dataclass(frozen=True, eq=False)
class _Splitter:
    """Splits nodes one by one; a weight that several of them share is split once.

    Attributes:
        editor: makes new nodes.
        grouped: weights of convolutions that are split.
        stacked: weights of products that are split, by name, with the factor folded into them.
    """

    editor: Editor
    grouped: set[str] = field(default_factory=set)
    stacked: dict[str, tuple[ir.Value, float]] = field(default_factory=dict)

    def group(self, node: ir.Node, edge: WeightedEdge, k: int) -> None:
        if edge.weight not in self.grouped:
            assert node.inputs[1] is not None
            # ONNX keeps the first axis whole: outputs of a Conv, inputs of a ConvTranspose.
            set_constant(node.inputs[1], np.concatenate(_blocks(_weight(node), edge, k), axis=0))
            self.grouped.add(edge.weight)
        node.attributes["group"] = ir.AttrInt64("group", k)
        node.metadata_props.update({CLUSTERS: str(k), LAYER: edge.name})

    def batch(self, node: ir.Node, edge: WeightedEdge, k: int) -> None:
        """x [..., T, k*n] -> [..., k, T, n] @ [k, n, m] + [k, 1, m] -> [..., T, k*m]."""
        data, out = node.inputs[0], node.outputs[0]
        assert data is not None
        n, m = len(edge.in_channels) // k, len(edge.out_channels) // k
        rank = 2 if node.op_type == "Gemm" else len(data.shape or (0, 0))
        lead, swap = kept_lead(rank), cluster_swap(rank + 1)

        def add(
            op: str, inputs: list[ir.Value], suffix: str = "", perm: list[int] | None = None
        ) -> ir.Value:
            mark = {LAYER: edge.name} | ({CLUSTERS: str(k)} if op == "MatMul" else {})
            made = self.editor.node(
                op,
                inputs,
                f"{edge.name}/{op.lower()}{suffix}",
                {"perm": perm} if perm else None,
                metadata=mark,
            )
            node.prepend(made)
            return made.outputs[0]

        def shape(suffix: str, dims: list[int]) -> ir.Value:
            return self.editor.constant(f"{edge.name}/{suffix}", dims)

        weight, folded = self._stack(node, edge, k)
        alpha = _float(node, "alpha")
        if alpha != folded:
            factor = np.asarray(alpha / folded, _weight(node).dtype)
            data = add("Mul", [data, self.editor.constant(f"{edge.name}/alpha", factor)])
        value = add("Reshape", [data, shape("blocks_in", [*lead, k, n])], "_in")
        value = add("Transpose", [value], "_in", swap)
        value = add("MatMul", [value, weight])
        bias = input_at(node, 2) if node.op_type == "Gemm" else None
        array = constant(bias)
        if bias is not None and array is not None:
            scaled = array.reshape(-1) * np.asarray(_float(node, "beta"), array.dtype)
            blocks = np.broadcast_to(scaled, (k * m,)).reshape(k, 1, m)
            value = add("Add", [value, self.editor.constant(f"{bias.name}/clusters", blocks)])
        value = add("Transpose", [value], "_out", swap)
        value = add("Reshape", [value, shape("blocks_out", [*lead, k * m])], "_out")
        take_over(value, out)
        remove_dead([out])

    def _stack(self, node: ir.Node, edge: WeightedEdge, k: int) -> tuple[ir.Value, float]:
        """The blocks of a weight and what they are scaled by: alpha of its first reader."""
        if edge.weight not in self.stacked:
            blocks = _blocks(_weight(node), edge, k)
            weight = np.stack([b if edge.in_axis == 0 else b.T for b in blocks])
            alpha = _float(node, "alpha") or 1.0
            stack = self.editor.constant(
                f"{edge.weight}/clusters", weight * np.asarray(alpha, weight.dtype)
            )
            self.stacked[edge.weight] = stack, alpha
        return self.stacked[edge.weight]
