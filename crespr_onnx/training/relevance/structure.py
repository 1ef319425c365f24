"""The graph of an imported model as relevance sees it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import fx, nn

from crespr_onnx.training.relevance import operators
from crespr_onnx.training.relevance.operators import Layer, bilinear


@dataclass(frozen=True, eq=False)
class Structure:
    """What relevance has to know about the operators of a model.

    Attributes:
        module: the model.
    """

    module: fx.GraphModule

    @cached_property
    def live(self) -> frozenset[fx.Node]:
        """Nodes that depend on the model's inputs."""
        found: set[fx.Node] = set()
        for node in self.module.graph.nodes:
            if node.op == "placeholder" or any(a in found for a in node.all_input_nodes):
                found.add(node)
        return frozenset(found)

    @cached_property
    def has_residuals(self) -> bool:
        """Whether computed tensors are added to each other, which mixes signs of relevance."""
        return any(
            operators.is_sum(self.called(node)) and len(self.inputs(node)) > 1
            for node in self.live
            if node.op == "call_module"
        )

    def called(self, node: fx.Node) -> nn.Module:
        """The module that a node calls."""
        return self.module.get_submodule(str(node.target))

    def inputs(self, node: fx.Node) -> list[fx.Node]:
        """Its distinct inputs that depend on the model's inputs."""
        return [a for a in node.all_input_nodes if a in self.live]

    def is_affine(self, node: fx.Node) -> bool:
        """Whether it scales and shifts elements by constants."""
        if node.op != "call_module" or len(self.inputs(node)) != 1:
            return False
        module = self.called(node)
        if operators.is_batch_norm(module):
            return node.args[0] in self.live
        kind = operators.arithmetic(module)
        operands = [a for a in node.args if a in self.live]
        return len(operands) == 1 and (
            kind in ("add", "sub", "mul") or (kind == "div" and node.args[0] in self.live)
        )

    def layer(self, node: fx.Node, values: Mapping[fx.Node, Any]) -> Layer | None:
        """A layer with constant weights, given what the nodes computed; None for anything else."""
        if node.op != "call_module":
            return None
        return bilinear(node, self.called(node), self.live, values)

    def outputs(self) -> list[fx.Node]:
        """The nodes whose values the model returns."""
        (end,) = [node for node in self.module.graph.nodes if node.op == "output"]
        result = end.args[0]
        return list(result) if isinstance(result, list | tuple) else [result]
