"""What the passes share: reading constants, fresh names, new initializers, removing dead code."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import ShapeInferencePass

Array = NDArray[Any]
Dims = tuple[int | None, ...]

CLUSTERS = "crespr.clusters"
LAYER = "crespr.layer"
MODULE = "crespr.module"


def constant(value: ir.Value | None) -> Array | None:
    """The array behind an initializer, or None.

    An initializer that is a graph input as well is only a default, which the caller may override.
    """
    if value is None or not value.is_initializer() or value.is_graph_input():
        return None
    tensor = value.const_value
    if tensor is None or tensor.dtype.is_string():
        return None
    return np.asarray(tensor.numpy())


def constant_ints(value: ir.Value | None) -> list[int] | None:
    """The elements of a constant tensor of integers, or None."""
    array = constant(value)
    if array is None or array.dtype.kind not in "iu":
        return None
    return [int(i) for i in array.ravel()]


def input_at(node: ir.Node, index: int) -> ir.Value | None:
    """An input of a node, None where it is omitted."""
    return node.inputs[index] if index < len(node.inputs) else None


def is_op(node: ir.Node | None, *op_types: str) -> bool:
    """Whether a node is one of these operators of the standard domain."""
    return node is not None and node.domain == "" and node.op_type in op_types


def opset(model: ir.Model) -> int:
    """Version of the standard operator set that the model imports."""
    return model.opset_imports.get("", 1)


def clusters_of(node: ir.Node) -> int:
    """Into how many equal clusters a node was split, 1 if it was not."""
    text = node.metadata_props.get(CLUSTERS, "1")
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else 1


def only_consumer(value: ir.Value) -> ir.Node | None:
    """The one node that reads a value, or None if several do or the graph returns it."""
    uses = value.uses()
    if len(uses) != 1 or value.is_graph_output():
        return None
    return next(iter(uses)).node


class Names:
    """Hands out names that nothing in the model has yet."""

    def __init__(self, model: ir.Model) -> None:
        self._taken: set[str] = set()
        for graph in model.graphs():
            self._taken.update(v.name for v in graph.inputs if v.name)
            self._taken.update(graph.initializers)
            for node in graph:
                self._taken.add(node.name or "")
                self._taken.update(v.name for v in node.outputs if v.name)

    def fresh(self, name: str) -> str:
        """The name itself if it is free, else the name with the first free number."""
        candidate, number = name, 1
        while candidate in self._taken:
            candidate, number = f"{name}_{number}", number + 1
        self._taken.add(candidate)
        return candidate


def add_constant(graph: ir.Graph, name: str, array: Array | Sequence[int]) -> ir.Value:
    """Registers a new initializer; a sequence of Python ints becomes int64."""
    data = np.asarray(array, dtype=None if isinstance(array, np.ndarray) else np.int64)
    value = ir.val(name, const_value=ir.tensor(np.ascontiguousarray(data), name=name))
    graph.register_initializer(value)
    return value


def set_constant(value: ir.Value, array: Array) -> None:
    """Gives an initializer new contents under its old name."""
    value.const_value = ir.tensor(np.ascontiguousarray(array), name=value.name)
    value.shape = ir.Shape(array.shape)
    value.dtype = value.const_value.dtype


def take_over(new: ir.Value, old: ir.Value) -> None:
    """Lets `new` stand for `old` everywhere, under its name; the producer of `old` is unused."""
    name = old.name
    new.shape, new.type, new.doc_string = old.shape, old.type, old.doc_string
    new.metadata_props.update(old.metadata_props)
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    old.name = None
    new.name = name


def remove_dead(values: Iterable[ir.Value | None]) -> None:
    """Removes what makes these values, as far back as nothing else needs it."""
    pending = [value for value in values if value is not None]
    while pending:
        value = pending.pop()
        if value.uses() or value.is_graph_output() or value.is_graph_input():
            continue
        node, graph = value.producer(), value.graph
        if graph is None:
            continue
        if node is None:
            if value.is_initializer() and value.name is not None:
                graph.initializers.pop(value.name)
        elif not any(output.uses() or output.is_graph_output() for output in node.outputs):
            pending.extend(operand for operand in node.inputs if operand is not None)
            graph.remove(node, safe=True)


def module_suffix(index: int, clusters: int) -> str:
    """Mark of one of `clusters` modules in names, wide enough to sort."""
    return f"module_{index:0{max(2, len(str(clusters - 1)))}d}"


def with_channels(value: ir.Value, like: ir.Value, channels: int) -> None:
    """Gives `value` the type and shape of `like`, but for the number of channels (axis 1)."""
    value.type = like.type
    if like.shape is not None and len(like.shape) > 1:
        value.shape = ir.Shape([like.shape[0], channels, *like.shape[2:]])


def inferred_dims(model: ir.Model) -> dict[str, Dims]:
    """Shape of every value whose rank is known, None for dimensions that are not static.

    Inference runs on a copy, so that asking for shapes never changes the model.
    """
    copy = model.clone()
    ShapeInferencePass(check_type=False, strict_mode=False)(copy)
    return {
        name: tuple(dim if isinstance(dim, int) else None for dim in value.shape)
        for name, value in ir.convenience.create_value_mapping(
            copy.graph, include_subgraphs=False
        ).items()
        if value.shape is not None
    }
