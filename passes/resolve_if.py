"""An If whose condition is constant gives way to its branch."""

from dataclasses import dataclass

import onnx_ir as ir

from crespr_onnx.passes.surgery import Names, constant, is_op, remove_dead, take_over


@dataclass(frozen=True)
class ResolveIf(ir.passes.InPlacePass):
    """Puts the nodes of the branch that is always taken in place of the If.

    What comes from the branch is named after the If and what it was called. Branches within the
    branch are resolved as well, if their conditions are constant.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes the model in place."""
        pending = [node for node in model.graph if is_op(node, "If")]
        modified = False
        names = Names(model) if pending else None
        while pending and names is not None:
            node = pending.pop()
            condition = constant(node.inputs[0])
            if condition is None or condition.size != 1:
                continue
            branch = node.attributes["then_branch" if condition.item() else "else_branch"]
            pending += _inline(model.graph, node, branch.as_graph(), names)
            modified = True
        return ir.passes.PassResult(model, modified)


def _inline(graph: ir.Graph, node: ir.Node, branch: ir.Graph, names: Names) -> list[ir.Node]:
    """Moves a branch before its If, which it then replaces; returns the Ifs in it."""
    results = list(branch.outputs)
    for value in list(branch.initializers.values()):
        branch.initializers.pop(value.name or "")
        value.name = names.fresh(f"{node.name}/{value.name}")
        graph.register_initializer(value)
    moved = list(branch)
    # A value is one graph's output at most, and outputs cannot leave their graph.
    branch.outputs.clear()
    for inner in moved:
        branch.remove(inner)
    graph.insert_before(node, moved)
    for inner in moved:
        inner.name = names.fresh(f"{node.name}/{inner.name or inner.op_type}")
        for output in inner.outputs:
            if output.name:
                output.name = names.fresh(f"{node.name}/{output.name}")
    for output, result in zip(node.outputs, results, strict=True):
        if output.is_graph_output():
            # The graph returns it under a name that the result cannot take if others read it, too.
            copy = ir.node("Identity", [result], name=names.fresh(f"{node.name}/Identity"))
            graph.insert_before(node, copy)
            take_over(copy.outputs[0], output)
        else:
            output.replace_all_uses_with(result)
    operands = list(node.inputs)
    graph.remove(node, safe=True)
    remove_dead(operands)
    return [inner for inner in moved if is_op(inner, "If")]
