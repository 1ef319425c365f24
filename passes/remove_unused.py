"""Unused nodes and initializers go."""

from dataclasses import dataclass

import onnx_ir as ir

from crespr_onnx.passes.surgery import remove_dead


@dataclass(frozen=True)
class RemoveUnused(ir.passes.InPlacePass):
    """Removes nodes whose outputs nothing reads, and initializers likewise.

    Unlike onnx-ir's pass of this purpose it changes no node that stays (that one drops the
    attribute training_mode and optional outputs without reporting it).
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes the model in place."""
        before = _size(model)
        for graph in model.graphs():
            for node in reversed(list(graph)):
                if node.graph is graph:
                    remove_dead(node.outputs)
            remove_dead(list(graph.initializers.values()))
        return ir.passes.PassResult(model, _size(model) != before)


def _size(model: ir.Model) -> tuple[int, int]:
    graphs = list(model.graphs())
    return sum(len(graph) for graph in graphs), sum(len(graph.initializers) for graph in graphs)
