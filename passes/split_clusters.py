"""Splits weighted edges along their clusters: weights between clusters are no longer stored."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import InPlacePass, PassResult

from crespr_onnx.errors import VerificationError
from crespr_onnx.layout import SELECTION, ChannelGraph, IntArray, Layout, WeightedEdge
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

    A Gather in front of it hands each cluster the channels that it reads, unless those are just the
    blocks that the channels come in. What the model computes stays the same if every weight that
    reads what its cluster does not is zero.

    Attributes:
        graph: channels of the model, in which every cluster is contiguous.
        layout: their clusters and selections; no channel may be dropped any more.
    """

    graph: ChannelGraph
    layout: Layout

    def call(self, model: ir.Model) -> PassResult:
        """Splits in place; `modified` tells whether any edge has clusters or reads less than all.

        Raises:
            VerificationError: if clusters of an edge are not contiguous or not equally large, or do
                not read equally much.
        """
        edges = {edge.name: edge for edge in self.graph.edges}
        work = _Splitter(Editor(model))
        modified = False
        for node in list(model.graph):
            edge = edges.get(node.name or node.outputs[0].name or "")
            if edge is None or node.op_type != edge.op or node.metadata_props.get(CLUSTERS):
                continue
            blocks = self._blocks(edge)
            if blocks is None:
                continue
            if len(blocks.reads) == 1:
                if _weight(node).shape[edge.in_axis] < blocks.inputs:
                    continue  # shrunk already
                work.shrink(node, edge, blocks)
            elif node.op_type in ("Conv", "ConvTranspose"):
                work.group(node, edge, blocks)
            else:
                work.batch(node, edge, blocks)
            modified = True
        return PassResult(model, modified)

    def _blocks(self, edge: WeightedEdge) -> "_Blocks | None":
        """What each cluster reads, or None if all of them read everything."""
        selection = self.layout.selections.get(edge.name)
        if selection is None or selection.all():
            return None
        n_in, k = selection.shape
        labels = self.layout.labels[edge.out_channels]
        if k > 1 and (
            len(labels) % k or not np.array_equal(labels, np.repeat(np.arange(k), len(labels) // k))
        ):
            raise VerificationError(
                f"clusters of '{edge.name}' are not {k} equal blocks of neighbouring channels: "
                f"labels {labels.tolist()}"
            )
        counts = selection.sum(axis=0)
        if len(set(counts.tolist())) > 1 or not counts[0]:
            raise VerificationError(
                f"clusters of '{edge.name}' must read equally many of its {n_in} inputs, and at "
                f"least one, but read {counts.tolist()}"
            )
        return _Blocks(tuple(np.flatnonzero(column) for column in selection.T), n_in)


@dataclass(frozen=True, eq=False)
class _Blocks:
    """Input positions that each cluster of an edge reads, equally many.

    Attributes:
        reads: the positions, per cluster.
        inputs: how many positions there are.
    """

    reads: tuple[IntArray, ...]
    inputs: int

    @property
    def positions(self) -> IntArray:
        """What all clusters read, one after the other."""
        return np.concatenate(self.reads)

    def of(self, weight: np.ndarray[Any, Any], edge: WeightedEdge) -> list[np.ndarray[Any, Any]]:
        """The part of a weight that each cluster stores."""
        n_out = weight.shape[edge.out_axis] // len(self.reads)
        return [
            weight.take(read, axis=edge.in_axis).take(
                range(i * n_out, (i + 1) * n_out), axis=edge.out_axis
            )
            for i, read in enumerate(self.reads)
        ]


def _weight(node: ir.Node) -> np.ndarray[Any, Any]:
    assert node.inputs[1] is not None
    assert node.inputs[1].const_value is not None
    return node.inputs[1].const_value.numpy()


def _rank(node: ir.Node) -> int:
    """Axes of the input of a Gemm or MatMul."""
    data = node.inputs[0]
    return 2 if node.op_type == "Gemm" or data is None else len(data.shape or (0, 0))


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

    def shrink(self, node: ir.Node, edge: WeightedEdge, blocks: _Blocks) -> None:
        """One cluster that does not read everything."""
        assert node.inputs[1] is not None
        node.replace_input_with(0, self._gather(node, edge, blocks))
        set_constant(node.inputs[1], blocks.of(_weight(node), edge)[0])

    def group(self, node: ir.Node, edge: WeightedEdge, blocks: _Blocks) -> None:
        """x [N, n_in, ...] -> [N, k*n, ...], convolved in k groups."""
        k = len(blocks.reads)
        node.replace_input_with(0, self._gather(node, edge, blocks))
        if edge.weight not in self.grouped:
            assert node.inputs[1] is not None
            # ONNX keeps the first axis whole: outputs of a Conv, inputs of a ConvTranspose.
            set_constant(node.inputs[1], np.concatenate(blocks.of(_weight(node), edge), axis=0))
            self.grouped.add(edge.weight)
        node.attributes["group"] = ir.AttrInt64("group", k)
        node.metadata_props.update({CLUSTERS: str(k), LAYER: edge.name})

    def batch(self, node: ir.Node, edge: WeightedEdge, blocks: _Blocks) -> None:
        """x [..., T, k*n] -> [..., k, T, n] @ [k, n, m] + [k, 1, m] -> [..., T, k*m]."""
        k, n = len(blocks.reads), len(blocks.reads[0])
        m = len(edge.out_channels) // k
        out, rank = node.outputs[0], _rank(node)
        data = self._gather(node, edge, blocks)
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

        weight, folded = self._stack(node, edge, blocks)
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
            per_block = np.broadcast_to(scaled, (k * m,)).reshape(k, 1, m)
            value = add("Add", [value, self.editor.constant(f"{bias.name}/clusters", per_block)])
        value = add("Transpose", [value], "_out", swap)
        value = add("Reshape", [value, shape("blocks_out", [*lead, k * m])], "_out")
        take_over(value, out)
        remove_dead([out])

    def _gather(self, node: ir.Node, edge: WeightedEdge, blocks: _Blocks) -> ir.Value:
        """The input of a node with the channels in the order in which its clusters read them."""
        data = node.inputs[0]
        assert data is not None
        if np.array_equal(blocks.positions, np.arange(blocks.inputs)):
            return data
        positions = blocks.positions.astype(np.int32)
        gather = self.editor.node(
            "Gather",
            [data, self.editor.constant(f"{edge.name}/selection", positions)],
            f"{edge.name}/Gather",
            {"axis": _rank(node) - 1 if node.op_type in ("Gemm", "MatMul") else 1},
            metadata={SELECTION: edge.name},
        )
        gather.outputs[0].type = data.type
        if data.shape is not None:
            dims = list(data.shape)
            dims[gather.attributes["axis"].as_int()] = len(positions)
            gather.outputs[0].shape = ir.Shape(dims)
        node.prepend(gather)
        return gather.outputs[0]

    def _stack(self, node: ir.Node, edge: WeightedEdge, blocks: _Blocks) -> tuple[ir.Value, float]:
        """The blocks of a weight and what they are scaled by: alpha of its first reader."""
        if edge.weight not in self.stacked:
            parts = blocks.of(_weight(node), edge)
            weight = np.stack([b if edge.in_axis == 0 else b.T for b in parts])
            alpha = _float(node, "alpha") or 1.0
            stack = self.editor.constant(
                f"{edge.weight}/clusters", weight * np.asarray(alpha, weight.dtype)
            )
            self.stacked[edge.weight] = stack, alpha
        return self.stacked[edge.weight]
