"""Reshapes whose target is computed at run time, but known, get it as a constant."""

import math
from dataclasses import dataclass

import onnx_ir as ir

from crespr_onnx.passes.edit import Editor
from crespr_onnx.passes.surgery import (
    Dims,
    constant_ints,
    inferred_dims,
    input_at,
    is_op,
    remove_dead,
)


@dataclass(frozen=True)
class FixReshapeTargets(ir.passes.InPlacePass):
    """Replaces targets that exporters assemble from Shape, Gather and Concat.

    All dimensions of the result but at most one must be known; that one then has no choice. Where
    it is the batch that comes in, its entry becomes 0 (as it is), else -1 (what is left).
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes the model in place."""
        nodes = [
            node
            for node in model.graph
            if is_op(node, "Reshape") and constant_ints(input_at(node, 1)) is None
        ]
        if not nodes:
            return ir.passes.PassResult(model, False)
        dims, editor, modified = inferred_dims(model), Editor(model), False
        for node in nodes:
            data, computed = node.inputs[0], node.inputs[1]
            after = dims.get(node.outputs[0].name or "")
            if data is None or after is None or 0 in after or after.count(None) > 1:
                continue
            keeps = _keeps_batch(dims.get(data.name or "", ()), after)
            copies = keeps and not node.attributes.get_int("allowzero", 0)
            target = [(0 if copies else -1) if dim is None else dim for dim in after]
            node.replace_input_with(1, editor.constant(f"{node.name}/shape", target))
            remove_dead([computed])
            modified = True
        return ir.passes.PassResult(model, modified)


def _keeps_batch(before: Dims, after: Dims) -> bool:
    """Whether only the first dimension is unknown, and a sample has as many elements as before."""
    if before[:1] != (None,) or after[0] is not None:
        return False
    old = [dim for dim in before[1:] if dim is not None]
    new = [dim for dim in after[1:] if dim is not None]
    return len(old) == len(before) - 1 and math.prod(old) == math.prod(new)
