"""Separate ops in a row become branches: Concat, channelwise operators and Split cancel out."""

from dataclasses import dataclass

import onnx_ir as ir

from crespr_onnx.passes.channel_parts import Parts, Sizes
from crespr_onnx.passes.channel_rules import CHANNEL_RULES
from crespr_onnx.passes.forms import Form, Forms, Step
from crespr_onnx.passes.surgery import (
    Names,
    constant_ints,
    inferred_dims,
    input_at,
    is_op,
    remove_dead,
)


@dataclass(frozen=True)
class CancelConcatSplit(ir.passes.InPlacePass):
    """Removes each Split of channels whose parts can be had without first joining them.

    Starting at a Split on axis 1, the parts of a value are the inputs of the Concat that makes
    it, if that joins parts of the same sizes, or its operator applied to the parts of its inputs,
    if that keeps channels apart. A Split without a Concat above it stays, and its outputs serve as
    the parts of its input elsewhere, so that a residual stream which starts at a dense layer
    becomes branches too. A value that is still used whole is a Concat of its parts afterwards;
    what operators that keep channels apart make of it is computed in parts as well, so that the
    branches of a residual stream run on to the next dense layer, and are joined only there.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes the model in place."""
        splits = [(node, sizes) for node in model.graph if (sizes := split_sizes(node))]
        if not splits:
            return ir.passes.PassResult(model, False)
        parts = Parts(model, Names(model), inferred_dims(model))

        def step(node: ir.Node, sizes: Sizes) -> Step[Sizes] | None:
            rule = CHANNEL_RULES.get(node.op_type) if node.domain == "" else None
            return rule(parts, node, sizes) if rule is not None else None

        def joined(value: ir.Value, sizes: Sizes, form: Form) -> list[ir.Node]:
            name = parts.names.fresh(f"{value.name}/concat")
            return [ir.node("Concat", form, {"axis": 1}, name=name)]

        def source(value: ir.Value, sizes: Sizes) -> Form | None:
            return _concatenated(parts, value, sizes)

        forms = Forms(model.graph, source, step, len, joined)
        modified = False
        for split, sizes in splits:
            whole = split.inputs[0]
            if whole is None:
                continue
            form = forms.get(whole, sizes) or forms.given.get((whole, sizes))
            if form is None:
                forms.given[whole, sizes] = tuple(split.outputs)
            else:
                ir.convenience.replace_all_uses_with(split.outputs, form)
                remove_dead(split.outputs[:1])
                modified = True
        if modified:
            _sink(parts, forms)
            forms.finish()
        return ir.passes.PassResult(model, modified)


def _sink(parts: Parts, forms: Forms[Sizes]) -> None:
    """Extends the forms that were built downwards, as far as operators pass them on."""
    for node in list(parts.model.graph):
        value = next((operand for operand in node.inputs if operand in forms.built), None)
        dims = parts.dims_of(node.outputs[0])
        if value is None or dims is None or len(dims) < 2:
            continue
        sizes = forms.built[value]
        repeats, rest = divmod(dims[1] or 0, sum(sizes))
        if repeats and not rest:
            forms.get(node.outputs[0], tuple(size * repeats for size in sizes))


def split_sizes(node: ir.Node) -> Sizes | None:
    """Sizes of the parts of a Split of axis 1 whose outputs may be replaced, else None."""
    if not is_op(node, "Split") or any(output.is_graph_output() for output in node.outputs):
        return None
    data = node.inputs[0]
    rank = len(data.shape) if data is not None and data.shape is not None else None
    axis = node.attributes.get_int("axis", 0)
    if axis + (rank or 0 if axis < 0 else 0) != 1:
        return None
    sizes = list(node.attributes.get_ints("split", ())) or constant_ints(input_at(node, 1))
    if sizes is None:
        dims = [output.shape[1] for output in node.outputs if output.shape is not None]
        sizes = [dim for dim in dims if isinstance(dim, int)]
    return tuple(sizes) if len(sizes) == len(node.outputs) > 1 else None


def _concatenated(parts: Parts, value: ir.Value, sizes: Sizes) -> Form | None:
    """The inputs of the Concat that makes a value, if they have these sizes."""
    node = value.producer()
    if node is None or not is_op(node, "Concat") or len(node.inputs) != len(sizes):
        return None
    rank = parts.rank_of(value)
    axis = node.attributes.get_int("axis", 1)
    if axis + (rank or 0 if axis < 0 else 0) != 1:
        return None
    form = tuple(operand for operand in node.inputs if operand is not None)
    dims = [parts.dims_of(operand) for operand in form]
    found = tuple(d[1] for d in dims if d is not None and len(d) > 1)
    return form if found == sizes else None
