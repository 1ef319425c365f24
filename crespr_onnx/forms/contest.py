"""What is timed side by side: one part of a model in several forms, or the whole of it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from crespr_onnx.graph.random_inputs import random_array
from crespr_onnx.graph.signature import signature_of
from crespr_onnx.passes.layer_forms import Form, forms_of, split_layers
from crespr_onnx.passes.surgery import inferred_dims
from crespr_onnx.stages.lower import arrange

SMALL = 8
"""Integers of so few elements say what shape comes out; more of them say which channels are read.
"""

PART_TURN, WHOLE_TURN = 0.005, 0.03
"""Seconds that a turn lasts: some hundred calls of a layer, a few of a model."""

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, eq=False)
class Contest:
    """A model, or a part of one, in several arrangements of its forms.

    Attributes:
        folded: what they are made of, as `stages.lower.fold` leaves it.
        arrangements: the forms of its layers, by the name of the arrangement.
        shapes: of the inputs, one sample each.
        turn_seconds: how long each is timed before the next takes its turn.
    """

    folded: ir.Model
    arrangements: Mapping[str, Mapping[str, Form]]
    shapes: Shapes
    turn_seconds: float = PART_TURN

    @cached_property
    def key(self) -> str:
        """A digest of what is computed in which order on which shapes, whatever the weights are."""
        places = {name: i for i, name in enumerate(split_layers(self.folded))}
        forms = {
            name: sorted((places[layer], form) for layer, form in forms.items() if layer in places)
            for name, forms in self.arrangements.items()
        }
        text = json.dumps([_structure(self.folded, self.shapes), forms])
        return hashlib.sha256(text.encode()).hexdigest()

    def models(self) -> dict[str, ir.Model]:
        """The arrangements, but for those that come out like another: some layers lack a form."""
        made: list[dict[str, Form]] = []
        models = {}
        for name, forms in self.arrangements.items():
            model = arrange(self.folded, forms)
            if forms_of(model) not in made:
                made.append(forms_of(model))
                models[name] = model
        return models

    def inputs(self) -> dict[str, NDArray[Any]]:
        """Random inputs, the same every time."""
        rng = np.random.default_rng(0)
        return {
            spec.name: random_array(spec, self.shapes[spec.name], rng)
            for spec in signature_of(self.folded).inputs
        }


def static_dims(model: ir.Model, shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """The shape of every value for one sample, where it can be told."""
    static = model.clone()
    for value in (v for node in static.graph for v in node.outputs):
        value.shape = None
    for value in static.graph.inputs:
        value.shape = ir.Shape(shapes[value.name or ""])
    return {
        name: tuple(dim for dim in dims if dim is not None)
        for name, dims in inferred_dims(static).items()
        if None not in dims
    }


def _structure(model: ir.Model, shapes: Shapes) -> list[Any]:
    """Operators, attributes, and which reads what, with the shapes of what is not computed."""
    numbers: dict[ir.Value, int] = {}

    def number(value: ir.Value | None) -> int:
        return -1 if value is None else numbers.setdefault(value, len(numbers))

    graph = model.graph
    lines: list[Any] = [sorted(model.opset_imports.items())]
    lines += [[number(v), str(v.dtype), list(shapes.get(v.name or "", ()))] for v in graph.inputs]
    for node in graph:
        for position, value in enumerate(node.inputs):
            if value is not None and value.is_initializer() and value not in numbers:
                picks = node.op_type.startswith("Gather") and position == 1
                lines.append([number(value), *_constant(value, with_content=not picks)])
        attributes = sorted((name, str(attr.value)) for name, attr in node.attributes.items())
        reads, makes = [number(v) for v in node.inputs], [number(v) for v in node.outputs]
        lines.append([node.domain, node.op_type, attributes, reads, makes])
    return [*lines, [number(v) for v in graph.outputs]]


def _constant(value: ir.Value, *, with_content: bool) -> list[Any]:
    tensor = value.const_value
    if tensor is None:
        return []
    told = [str(tensor.dtype), list(tensor.shape.numpy())]
    if with_content and tensor.dtype.is_integer() and tensor.size <= SMALL:
        told.append(tensor.numpy().ravel().tolist())
    return told
