"""Split layers as one dense op: a grouped Conv or batched MatMul gets its zeros back."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from crespr_onnx.layout import SELECTION, IntArray
from crespr_onnx.passes.batched_matmul import BatchedMatMul, match_batched_matmul
from crespr_onnx.passes.edit import Editor
from crespr_onnx.passes.separate_groups import layer_name
from crespr_onnx.passes.surgery import (
    CLUSTERS,
    LAYER,
    Array,
    Dims,
    clusters_of,
    constant,
    inferred_dims,
    input_at,
    is_op,
    only_consumer,
    remove_dead,
    take_over,
)


@dataclass(frozen=True)
class MergeGroups(ir.passes.InPlacePass):
    """Lowers split layers to one dense op, with zeros between their clusters.

    The inverse of the split: a Conv or ConvTranspose with the mark crespr.clusters = K becomes one
    of a single group, a batched MatMul with its reshapes a Gemm (or MatMul and Add), and where a
    Gather of its own hands each cluster what it reads, the weight is spread over what the Gather
    reads from, and the Gather goes. More weights are stored than before. Layers without the mark
    stay, and batched ones whose reshapes were cancelled or are read by others.

    Attributes:
        layers: names of the layers to lower, None for all.
    """

    layers: frozenset[str] | None = None

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes the model in place."""
        chosen = [
            node
            for node in model.graph
            if clusters_of(node) > 1 and (self.layers is None or layer_name(node) in self.layers)
        ]
        if not chosen:
            return ir.passes.PassResult(model, False)
        work = _Merger(Editor(model), inferred_dims(model), {})
        merged = [work.merge(node) for node in chosen]
        return ir.passes.PassResult(model, any(merged))


@dataclass(frozen=True, eq=False)
class _Merger:
    """Merges layers one by one; a weight that several share in the same way is merged once.

    Attributes:
        editor: makes new nodes.
        dims: shapes of values.
        made: dense weights by what they were made of.
    """

    editor: Editor
    dims: dict[str, Dims]
    made: dict[tuple[ir.Value, str, bytes, int], ir.Value]

    def merge(self, node: ir.Node) -> bool:
        """Merges a marked node, and tells whether it could."""
        if is_op(node, "Conv", "ConvTranspose"):
            return self._merge_conv(node)
        found = match_batched_matmul(node) if is_op(node, "MatMul") else None
        if found is not None:
            self._merge_matmul(found)
        return found is not None

    def _merge_conv(self, node: ir.Node) -> bool:
        clusters, weight, data = clusters_of(node), constant(node.inputs[1]), node.inputs[0]
        if weight is None or data is None or weight.shape[0] % clusters:
            return False
        if node.attributes.get_int("group", 1) != clusters:
            return False
        # Blocks [n_out, n_in, ...] of a Conv, [n_in, n_out, ...] of a ConvTranspose.
        parts = np.stack(np.split(weight, clusters))
        if node.op_type == "ConvTranspose":
            parts = parts.swapaxes(1, 2)
        source, reads, width = self._source(data, clusters * parts.shape[2], 1)
        value = self._weight(node, parts.swapaxes(1, 2), reads, width)
        old = node.inputs[1]
        node.replace_input_with(1, value)
        remove_dead([old])
        node.attributes["group"] = ir.AttrInt64("group", 1)
        del node.metadata_props[CLUSTERS]
        if source is not data:
            node.replace_input_with(0, source)
            remove_dead([data])
        return True

    def _merge_matmul(self, found: BatchedMatMul) -> None:
        clusters, n_in, n_out = found.weight.shape
        name, graph = layer_name(found.node), self.editor.graph
        source, reads, width = self._source(found.data, clusters * n_in, found.rank - 1)
        weight = self._weight(found.node, found.weight, reads, width)
        marks = {k: v for k, v in found.node.metadata_props.items() if k != CLUSTERS}
        marks[LAYER] = name
        operands, added = [source, weight], []
        bias = None
        if found.bias is not None:
            bias = self.editor.constant(f"{name}/bias", found.bias.reshape(clusters * n_out))
        if bias is not None and found.rank == 2:
            operands.append(bias)
        op_type = "Gemm" if len(operands) == 3 else "MatMul"
        added.append(self.editor.node(op_type, operands, name, metadata=marks))
        if bias is not None and found.rank > 2:
            product = added[0].outputs[0]
            added.append(self.editor.node("Add", [product, bias], f"{name}/add", metadata=marks))
        graph.insert_before(found.last, added)
        result = found.last.outputs[0]
        take_over(added[-1].outputs[0], result)
        remove_dead([result])

    def _source(self, data: ir.Value, reads: int, axis: int) -> tuple[ir.Value, IntArray, int]:
        """What a layer reads once its own Gather is gone: value, positions in it, its width."""
        gather = data.producer()
        if gather is not None and is_op(gather, "Gather") and SELECTION in gather.metadata_props:
            before, positions = gather.inputs[0], constant(input_at(gather, 1))
            dims = self.dims.get(before.name or "", ()) if before is not None else ()
            width = dims[axis] if axis < len(dims) else None
            if (
                before is not None
                and positions is not None
                and positions.shape == (reads,)
                and width is not None
                and gather.attributes.get_int("axis", 0) == axis
                and only_consumer(data) is not None
            ):
                return before, positions.astype(np.int64), width
        return data, np.arange(reads, dtype=np.int64), reads

    def _weight(self, node: ir.Node, blocks: Array, reads: IntArray, width: int) -> ir.Value:
        """Blocks [K, n_in, n_out, ...] that read these positions, as one weight with zeros.

        For a Conv it is [out, in, ...], for everything else [in, out, ...].
        """
        old = node.inputs[1]
        assert old is not None
        key = (old, node.op_type, reads.tobytes(), width)
        if key not in self.made:
            clusters, _, n_out, *kernel = blocks.shape
            dense = np.zeros((width, clusters * n_out, *kernel), blocks.dtype)
            for k, rows in enumerate(np.split(reads, clusters)):
                dense[rows, k * n_out : (k + 1) * n_out] = blocks[k]
            if node.op_type == "Conv":
                dense = dense.swapaxes(0, 1)
            self.made[key] = self.editor.constant(f"{old.name}/dense", dense)
        return self.made[key]
