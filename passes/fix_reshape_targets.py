"""Reshapes whose target is computed at run time, but known, get it as a constant."""

from dataclasses import dataclass

import onnx_ir as ir

from crespr_onnx.passes.edit import Editor
from crespr_onnx.passes.known_entries import known_entries
from crespr_onnx.passes.surgery import Dims, constant_ints, inferred_dims, input_at, is_op


@dataclass(frozen=True)
class FixReshapeTargets(ir.passes.InPlacePass):
    """Replaces targets that exporters assemble from Shape, Gather and Concat.

    All of its entries must be known, or be the dimension that comes in at the same place, which a 0
    copies; or all dimensions of the result but one are known, which then has no choice: -1.
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
            target = _by_entries(node)
            if target is None:
                target = _by_result(dims.get(node.outputs[0].name or ""))
            if target is None:
                continue
            editor.set_input(node, 1, f"{node.name}/shape", target)
            modified = True
        return ir.passes.PassResult(model, modified)


def _by_entries(node: ir.Node) -> list[int] | None:
    """The target from what is computed for it."""
    data, entries = node.inputs[0], known_entries(node.inputs[1])
    if data is None or data.shape is None or entries is None:
        return None
    if node.attributes.get_int("allowzero", 0):
        return None
    given = [d if isinstance(d, int) else d.value for d in data.shape]
    copied = [
        0 if isinstance(entry, str) and given[i : i + 1] == [entry] else entry
        for i, entry in enumerate(entries)
    ]
    target = [entry for entry in copied if isinstance(entry, int)]
    return target if len(target) == len(entries) else None


def _by_result(after: Dims | None) -> list[int] | None:
    """The target from the shape that inference finds for the result."""
    if after is None or 0 in after or after.count(None) > 1:
        return None
    return [-1 if dim is None else dim for dim in after]
