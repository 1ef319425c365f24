"""Reading nodes: constants, attributes and shapes as the rules need them."""

from typing import Any

import numpy as np
import onnx_ir as ir

from crespr_onnx.graph.tracker import ChannelTracker, NotUnderstoodError
from crespr_onnx.layout import ChannelAxis


def is_constant(value: ir.Value | None) -> bool:
    """Whether a value is an initializer that no caller can override and none gets to see."""
    return (
        value is not None
        and value.is_initializer()
        and not value.is_graph_input()
        and not value.is_graph_output()
    )


def constant(value: ir.Value | None, what: str) -> np.ndarray[Any, Any]:
    """The array behind an initializer.

    Raises:
        NotUnderstoodError: if the value is computed or given by the caller.
    """
    if value is None or not is_constant(value) or value.const_value is None:
        raise NotUnderstoodError(f"{what} is not a constant")
    return value.const_value.numpy()


def optional_input(node: ir.Node, index: int) -> ir.Value | None:
    """Input `index` of a node, or None where it is absent."""
    return node.inputs[index] if index < len(node.inputs) else None


def setting(node: ir.Node, index: int, name: str, what: str) -> np.ndarray[Any, Any]:
    """A constant that newer opsets take as input `index` and older ones as attribute `name`.

    Raises:
        NotUnderstoodError: if it is computed, given by the caller, or absent.
    """
    if name in node.attributes:
        return np.asarray(attribute(node, name))
    return constant(optional_input(node, index), what)


def opset(node: ir.Node) -> int:
    """Version of the standard operator set that the node's graph imports."""
    return node.graph.opset_imports.get("", 1) if node.graph is not None else 1


def require_single_output(node: ir.Node) -> None:
    """For operators whose further outputs carry channels too, which no rule follows.

    Raises:
        NotUnderstoodError: if another output than the first is used.
    """
    for value in node.outputs[1:]:
        if value.uses() or value.is_graph_output():
            raise NotUnderstoodError(f"its output '{value.name}' is used")


def attribute(node: ir.Node, name: str, default: Any = None) -> Any:  # noqa: ANN401
    """Value of an attribute, or `default` where it is absent."""
    return node.attributes[name].value if name in node.attributes else default


def rank(value: ir.Value | None) -> int:
    """Number of dimensions of a tensor.

    Raises:
        NotUnderstoodError: if shape inference could not tell.
    """
    if value is None or value.shape is None:
        raise NotUnderstoodError(f"the shape of '{value.name if value else ''}' is unknown")
    return len(value.shape)


def dims(value: ir.Value | None) -> list[int | None]:
    """Dimensions of a tensor, None for each that is not fixed.

    Raises:
        NotUnderstoodError: if shape inference could not tell.
    """
    rank(value)
    assert value is not None
    assert value.shape is not None
    return [d if isinstance(d, int) else None for d in value.shape]


def tracked(node: ir.Node, tracker: ChannelTracker, index: int = 0) -> ChannelAxis:
    """Channel axis of an input that must have one.

    Raises:
        NotUnderstoodError: if none is known.
    """
    axis = tracker.axis_of(node.inputs[index])
    if axis is None:
        raise NotUnderstoodError(f"input {index} has no known channel axis")
    return axis
