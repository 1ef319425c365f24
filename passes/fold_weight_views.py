"""Weights that are reshaped or transposed before their use are stored that way."""

import math
from dataclasses import dataclass

import onnx_ir as ir

from crespr_onnx.passes.surgery import (
    Array,
    Dims,
    add_constant,
    constant,
    constant_ints,
    inferred_dims,
    is_op,
)

_VIEWS = ("Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


@dataclass(frozen=True)
class FoldWeightViews(ir.passes.InPlacePass):
    """Turns a rearranged initializer that nobody else reads into an initializer.

    Paddle, for one, stores a bias as a vector and reshapes it in the graph. What is stored stays as
    large as it was; an initializer that others read as well stays, since it would be stored twice.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes the model in place."""
        views = [node for node in model.graph if is_op(node, *_VIEWS)]
        if not any(constant(node.inputs[0]) is not None for node in views):
            return ir.passes.PassResult(model, False)
        dims, modified = inferred_dims(model), False
        for node in views:
            stored, output = node.inputs[0], node.outputs[0]
            array = constant(stored)
            if stored is None or array is None or output.is_graph_output():
                continue
            if len(stored.uses()) > 1 or stored.is_graph_output():
                continue
            rearranged = _rearranged(node, array, dims.get(output.name or ""))
            if rearranged is None:
                continue
            name = output.name or ""
            model.graph.remove(node, safe=False)
            model.graph.initializers.pop(stored.name or "")
            output.name = None
            output.replace_all_uses_with(add_constant(model.graph, name, rearranged))
            modified = True
        return ir.passes.PassResult(model, modified)


def _rearranged(node: ir.Node, array: Array, dims: Dims | None) -> Array | None:
    """What the node makes of the array, or None if that cannot be told."""
    if node.op_type == "Transpose":
        return array.transpose(node.attributes.get_ints("perm", ()) or None)
    if node.op_type == "Reshape" and constant_ints(node.inputs[1]) is None:
        return None
    shape = [dim for dim in dims or () if dim is not None]
    if dims is None or len(shape) < len(dims) or math.prod(shape) != array.size:
        return None
    return array.reshape(shape)
