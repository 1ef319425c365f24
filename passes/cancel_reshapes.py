"""Batched layers in a row stay in batched form: the reshapes between them cancel out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from crespr_onnx.passes.batched_matmul import (
    cluster_swap,
    keeps,
    kept_lead,
    match_blocks,
    swap_source,
)
from crespr_onnx.passes.channel_rules import BROADCASTING, UNARY
from crespr_onnx.passes.forms import Form, Forms, Step
from crespr_onnx.passes.surgery import (
    Array,
    Dims,
    Names,
    add_constant,
    constant,
    constant_ints,
    inferred_dims,
    is_op,
    remove_dead,
)

Kind = tuple[int, int, int]
"""Rank of the merged tensor [..., T, K n], clusters K, channels n in each."""


@dataclass(frozen=True)
class CancelReshapes(ir.passes.InPlacePass):
    """Keeps what lies between two batched layers with the same clusters in the form [K, N, n].

    Between them are the Transpose and Reshape that merge [K, N, n] into [N, K n], operators on
    single elements, and the Reshape and Transpose that take [N, K n] apart again. The reshapes go,
    the operators work on [K, N, n]. What still needs [N, K n], a dense layer or a graph output,
    gets it merged behind the last of them. Further axes in front stay where they are.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes the model in place."""
        wanted = [(node, found) for node in model.graph if (found := match_blocks(node))]
        if not wanted:
            return ir.passes.PassResult(model, False)
        batched = _Batched(model, Names(model), inferred_dims(model))
        forms = Forms(model.graph, batched.source, batched.step, lambda _: 1, batched.merged)
        modified = False
        for node, blocks in wanted:
            if node.outputs[0].is_graph_output():
                continue
            form = forms.get(blocks.data, (blocks.rank, blocks.clusters, blocks.width))
            if form is not None:
                node.outputs[0].replace_all_uses_with(form[0])
                remove_dead(node.outputs)
                modified = True
        if modified:
            forms.finish()
        return ir.passes.PassResult(model, modified)


@dataclass(frozen=True, eq=False)
class _Batched:
    """Rules for values [..., T, K n] in the form [..., K, T, n]."""

    model: ir.Model
    names: Names
    dims: Mapping[str, Dims]

    def source(self, value: ir.Value, kind: Kind) -> Form | None:
        """The [..., K, T, n] that a value was merged from."""
        rank, clusters, width = kind
        reshape = value.producer()
        if reshape is None or not is_op(reshape, "Reshape") or reshape.inputs[0] is None:
            return None
        *lead, last = constant_ints(reshape.inputs[1]) or [0]
        if len(lead) != rank - 1 or not keeps([*lead, min(last, 0)]):
            return None
        batched = swap_source(reshape.inputs[0].producer())
        dims = self.dims.get(batched.name or "", ()) if batched is not None else ()
        if batched is None or len(dims) != rank + 1 or (dims[-3], dims[-1]) != (clusters, width):
            return None
        return (batched,) if last in (-1, clusters * width) else None

    def step(self, node: ir.Node, kind: Kind) -> Step[Kind] | None:
        """Operators on elements; their constants take the form [K, 1, n] as well."""
        rank, clusters, width = kind
        shape = self.dims.get(node.outputs[0].name or "", ())
        if node.domain != "" or node.op_type not in UNARY | BROADCASTING:
            return None
        if len(shape) != rank or shape[-1] != clusters * width:
            return None
        needs: list[tuple[ir.Value, Kind]] = []
        for value in node.inputs:
            array = constant(value)
            if value is None or _is_scalar(array):
                continue
            dims = self.dims.get(value.name or "", ())
            if array is None and len(dims) == rank and dims[-1] == clusters * width:
                needs.append((value, kind))
            elif array is None or not array.size == array.shape[-1] == clusters * width:
                return None
        if not needs:
            return None

        def build(_: int, given: Sequence[ir.Value]) -> ir.Node:
            form = dict(zip((need for need, _ in needs), given, strict=True))
            inputs = [form.get(v) or self._constant(v, kind) if v else None for v in node.inputs]
            return self._copy(node, inputs)

        return Step(tuple(needs), build)

    def _constant(self, value: ir.Value, kind: Kind) -> ir.Value:
        array = constant(value)
        if _is_scalar(array):
            return value
        name = self.names.fresh(f"{value.name}/clusters")
        blocks = np.asarray(array).reshape(kind[1], 1, kind[2])
        return add_constant(self.model.graph, name, blocks)

    def _copy(self, node: ir.Node, inputs: Sequence[ir.Value | None]) -> ir.Node:
        output = ir.val(self.names.fresh(f"{node.outputs[0].name}/clusters"))
        output.type = node.outputs[0].type
        return ir.Node(
            "",
            node.op_type,
            inputs,
            dict(node.attributes),
            outputs=[output],
            name=self.names.fresh(f"{node.name}/clusters"),
            metadata_props=dict(node.metadata_props),
        )

    def merged(self, value: ir.Value, kind: Kind, form: Form) -> list[ir.Node]:
        """[..., K, T, n] back to [..., T, K n]."""
        rank, clusters, width = kind
        fresh = self.names.fresh
        middle = ir.val(fresh(f"{value.name}/transpose/output"))
        swap = ir.node(
            "Transpose",
            form,
            {"perm": cluster_swap(rank + 1)},
            name=fresh(f"{value.name}/transpose"),
            outputs=[middle],
        )
        target = [*kept_lead(rank), clusters * width]
        shape = add_constant(self.model.graph, fresh(f"{value.name}/shape"), target)
        return [swap, ir.node("Reshape", [middle, shape], name=fresh(f"{value.name}/reshape"))]


def _is_scalar(array: Array | None) -> bool:
    return array is not None and array.size == 1 and array.ndim <= 2
