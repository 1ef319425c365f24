"""Relevance from the outputs of an imported model back through its layers.

Rules, as in arXiv 1912.08881: z+ for convolutions, and for linear layers of models without residual
sums; epsilon for linear layers of models with them, for residual sums, for pooling, and for every
other operator. Activations and operators that move elements pass relevance on.

A BatchNorm that follows a layer with weights, and constants added or multiplied in between, are
folded into it for the pass: the layer, its bias and they are one affine map, and the rules need no
more than the scale and the output of that map. So the result is that of the folded weights, and the
model stays as it is. Any other BatchNorm has one input for each output, so that z+ passes relevance
on; where the epsilon rule holds, its shift keeps a share as any bias does.

A product of computed tensors (attention, gates) gives each factor an equal part, and a quotient
everything to the numerator, for otherwise relevance would multiply (Achtibat et al. 2024, arXiv
2402.05602). Relevance passes a softmax at the very end, where classes only compete for
what their scores explain.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from crespr_onnx.training.relevance import operators
from crespr_onnx.training.relevance.rules import (
    epsilon_rule,
    gradient_rule,
    positive_rule,
)
from crespr_onnx.training.relevance.structure import Structure
from crespr_onnx.training.relevance.variant import Variant


@dataclass(frozen=True, eq=False)
class Flow:
    """What passed through one layer with weights.

    Attributes:
        output: relevance at its output, with what is folded into it; shaped like the output.
        inputs: relevance that it handed to its input, shaped like the input.
        weights: the same by way of each weight, summed over samples and positions; shaped like the
            weight as the module stores it.
    """

    output: Tensor
    inputs: Tensor
    weights: Tensor


def propagate(
    structure: Structure,
    values: Mapping[fx.Node, Any],
    start: Sequence[Tensor | None],
    variant: Variant,
) -> dict[str, Flow]:
    """Hands relevance back from the outputs to the inputs.

    Args:
        structure: the model.
        values: what each node computed on a batch.
        start: relevance of each output, None where it has none.
        variant: how.

    Returns:
        Path of each module with weights that relevance reached -> what passed through it.
    """
    return _Pass(structure, values, variant).run(start)


class _Pass:
    def __init__(
        self, structure: Structure, values: Mapping[fx.Node, Any], variant: Variant
    ) -> None:
        self._model = structure
        self._any_input = variant.any_input
        self._values = values
        self._at: dict[fx.Node, Tensor] = {}
        self._parts: dict[fx.Node, dict[int, Tensor]] = {}
        self._tails: dict[fx.Node, tuple[Tensor, Tensor]] = {}
        self._flows: dict[str, Flow] = {}

    def run(self, start: Sequence[Tensor | None]) -> dict[str, Flow]:
        for node, relevance in zip(self._model.outputs(), start, strict=True):
            if relevance is not None and node in self._model.live:
                self._give(self._before_softmax(node), relevance)
        for node in self._layers():
            if node.op == "call_function":  # an element of what a node with several outputs returns
                relevance = self._at.pop(node, None)
                if relevance is not None:
                    source, index = node.args
                    assert isinstance(source, fx.Node)
                    assert isinstance(index, int)
                    self._parts.setdefault(source, {})[index] = relevance
            elif node.op == "call_module" and (node in self._at or node in self._parts):
                self._through(node)
        return self._flows

    def _layers(self) -> Iterator[fx.Node]:
        return (n for n in reversed(list(self._model.module.graph.nodes)) if n in self._model.live)

    def _before_softmax(self, node: fx.Node) -> fx.Node:
        if node.op == "call_module" and operators.is_softmax(self._model.called(node)):
            return self._model.inputs(node)[0]
        return node

    def _give(self, node: fx.Node, relevance: Tensor) -> None:
        self._at[node] = self._at[node] + relevance if node in self._at else relevance

    def _through(self, node: fx.Node) -> None:
        module = self._model.called(node)
        relevance = self._at.pop(node, None)
        layer = self._model.layer(node, self._values)
        if layer is not None and relevance is not None:
            scale, output = self._tails.pop(node, None) or (
                torch.ones_like(relevance),
                self._values[node],
            )
            x = self._values[layer.source]
            if self._is_positive(module):
                share = positive_rule(
                    layer.form, x, layer.weight, relevance, scale, self._any_input
                )
            else:
                share = epsilon_rule(layer.form, x, layer.weight, relevance, scale, output)
            self._flows[str(node.target)] = Flow(relevance, share.inputs, share.weights)
            self._give(layer.source, share.inputs)
        elif relevance is not None and self._passes(node, module):
            self._give(self._model.inputs(node)[0], relevance)
        else:
            self._differentiate(node, module, relevance)

    def _is_positive(self, module: nn.Module) -> bool:
        return not self._model.has_residuals or operators.is_convolution(module)

    def _passes(self, node: fx.Node, module: nn.Module) -> bool:
        """Whether the relevance of a node is that of its only computed input."""
        inputs = self._model.inputs(node)
        if len(inputs) != 1 or self._values[inputs[0]].shape != self._values[node].shape:
            return False
        if operators.is_activation(module):
            return True
        if not self._model.is_affine(node):
            return False
        return self._fold(node) or not self._model.has_residuals

    def _fold(self, node: fx.Node) -> bool:
        """Makes an affine node part of the layer before it, if it follows one."""
        scale, output = self._tails.pop(node, (None, self._values[node]))
        (source,) = self._model.inputs(node)
        if len(source.users) > 1 or not self._leads_to_layer(source):
            return False
        (slope,) = gradient_rule(
            lambda x: self._call(node, {source: x}),
            [self._values[source]],
            [torch.ones_like(output)],
            divide=False,
        )
        self._tails[source] = (slope if scale is None else slope * scale, output)
        return True

    def _leads_to_layer(self, node: fx.Node) -> bool:
        """Whether a node is a layer with weights, or affine nodes in a row after one."""
        if self._model.layer(node, self._values) is not None:
            return True
        if not self._model.is_affine(node):
            return False
        (source,) = self._model.inputs(node)
        same = self._values[source].shape == self._values[node].shape
        return same and len(source.users) == 1 and self._leads_to_layer(source)

    def _differentiate(self, node: fx.Node, module: nn.Module, relevance: Tensor | None) -> None:
        """The rules that hold for any operator."""
        parts = self._parts.pop(node, {})
        value = self._values[node]
        count = len(value) if isinstance(value, list | tuple) else 1
        found = (
            [relevance]
            if count == 1 and relevance is not None
            else [parts.get(i) for i in range(count)]
        )
        inputs = [n for n in self._model.inputs(node) if _is_float(self._values[n])]
        if operators.arithmetic(module) == "div" and len(inputs) > 1:
            inputs = [n for n in inputs if n is node.args[0]]
        if not inputs:
            return
        moves = operators.is_move(module)
        shares = gradient_rule(
            lambda *xs: self._call(node, dict(zip(inputs, xs, strict=True))),
            [self._values[n] for n in inputs],
            found,
            divide=not moves,
        )
        factors = _occurrences(node, inputs) if operators.is_product(module) else 1
        for source, share in zip(inputs, shares, strict=True):
            self._give(source, share / factors)

    def _call(self, node: fx.Node, changed: Mapping[fx.Node, Tensor]) -> Any:  # noqa: ANN401
        """What a node computes when some of its inputs are others."""
        arguments = fx.map_arg(node.args, lambda n: changed.get(n, self._values[n]))
        return self._model.called(node)(*arguments)


def _is_float(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, Tensor) and value.is_floating_point()


def _occurrences(node: fx.Node, inputs: Sequence[fx.Node]) -> int:
    """How many factors of a product are computed; a square has two."""
    return sum(a in inputs for a in node.args if isinstance(a, fx.Node))
