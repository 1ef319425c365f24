"""Models exported for one sample take any number of them."""

from dataclasses import dataclass

import onnx_ir as ir

from crespr_onnx.passes.edit import Editor
from crespr_onnx.passes.surgery import constant_ints, inferred_dims, is_op

BATCH = "batch"
"""Symbol of the new dimension."""


@dataclass(frozen=True)
class FreeBatch(ir.passes.InPlacePass):
    """Lets the first axis of all inputs and outputs, if it is 1, have any length.

    Targets of reshapes that begin with the 1 of the batch copy what comes in instead. Whether the
    model then treats its samples apart only shows when it runs: compare it with the original.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes the model in place; shapes between its nodes must be inferred anew."""
        graph = model.graph
        if not graph.inputs or not all(_is_single(value) for value in graph.inputs):
            return ir.passes.PassResult(model, False)
        dims, editor = inferred_dims(model), Editor(model)
        for node in graph:
            target = constant_ints(node.inputs[1]) if is_op(node, "Reshape") else None
            data = node.inputs[0] if target else None
            single = data is not None and dims.get(data.name or "", ())[:1] == (1,)
            if target and target[0] == 1 and single and not node.attributes.get_int("allowzero", 0):
                editor.set_input(node, 1, f"{node.name}/shape", [0, *target[1:]])
        for node in graph:
            for value in node.outputs:
                if not value.is_graph_output():
                    value.shape = None
        for value in (*graph.inputs, *graph.outputs):
            if _is_single(value) and value.shape is not None:
                value.shape = ir.Shape([BATCH, *list(value.shape)[1:]])
        return ir.passes.PassResult(model, True)


def _is_single(value: ir.Value) -> bool:
    return value.shape is not None and len(value.shape) > 0 and value.shape[0] == 1
