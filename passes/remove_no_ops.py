"""Operators that return their input as it is go."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from crespr_onnx.passes.surgery import (
    Dims,
    constant,
    constant_ints,
    inferred_dims,
    input_at,
    remove_dead,
    take_over,
)


@dataclass(frozen=True)
class RemoveNoOps(ir.passes.InPlacePass):
    """Removes Identity and Dropout, and what gathers or reshapes without changing anything.

    Dropout goes in inference mode only, and if nothing reads its mask; the others are Gather,
    Reshape, Flatten and Transpose.

    One that joins a graph input, an initializer or another graph output to a graph output stays,
    since both names must. (onnx-ir's identity elimination renames the other output there.)
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes the model in place."""
        candidates = [n for n in model.graph if n.domain == "" and n.op_type in _DOES_NOTHING]
        if not candidates:
            return ir.passes.PassResult(model, False)
        dims = inferred_dims(model)
        modified = False
        for node in candidates:
            data = node.inputs[0]
            if data is None:
                continue
            shape = dims.get(data.name or "")
            if _DOES_NOTHING[node.op_type](node, shape, dims) and _bypass(data, node.outputs[0]):
                modified = True
        return ir.passes.PassResult(model, modified)


def _bypass(data: ir.Value, output: ir.Value) -> bool:
    if output.is_graph_output():
        if data.producer() is None or data.is_graph_output():
            return False
        take_over(data, output)
    else:
        output.replace_all_uses_with(data)
    remove_dead([output])
    return True


Test = Callable[[ir.Node, Dims | None, Mapping[str, Dims]], bool]
"""Whether a node does nothing, from the shape of its first input, if known, and all shapes."""


def _identity(node: ir.Node, shape: Dims | None, dims: Mapping[str, Dims]) -> bool:
    return True


def _dropout(node: ir.Node, shape: Dims | None, dims: Mapping[str, Dims]) -> bool:
    """Is in inference mode (before opset 12 it always is) and nothing reads its mask."""
    if any(mask.uses() or mask.is_graph_output() for mask in node.outputs[1:]):
        return False
    mode = input_at(node, 2)
    training = constant(mode)
    return mode is None or (training is not None and not training.any())


def _transpose(node: ir.Node, shape: Dims | None, dims: Mapping[str, Dims]) -> bool:
    perm = list(node.attributes.get_ints("perm", ()))
    return bool(perm) and perm == sorted(perm)


def _gather(node: ir.Node, shape: Dims | None, dims: Mapping[str, Dims]) -> bool:
    """Takes every position of the axis in order."""
    indices = node.inputs[1]
    axis = node.attributes.get_int("axis", 0)
    if shape is None or indices is None or len(dims.get(indices.name or "", ())) != 1:
        return False
    length = shape[axis]
    return length is not None and constant_ints(indices) == list(range(length))


def _flatten(node: ir.Node, shape: Dims | None, dims: Mapping[str, Dims]) -> bool:
    return shape is not None and len(shape) == 2 and node.attributes.get_int("axis", 1) in (1, -1)


def _reshape(node: ir.Node, shape: Dims | None, dims: Mapping[str, Dims]) -> bool:
    """Every dimension but at most one is asked to stay; that one then has no choice."""
    target = constant_ints(node.inputs[1])
    if target is None or shape is None or len(target) != len(shape):
        return False
    copied = 0 if node.attributes.get_int("allowzero", 0) == 0 else None
    free = [t for t, dim in zip(target, shape, strict=True) if t not in (copied, dim)]
    return free in ([], [-1]) and 0 not in shape


_DOES_NOTHING: dict[str, Test] = {
    "Dropout": _dropout,
    "Flatten": _flatten,
    "Gather": _gather,
    "Identity": _identity,
    "Reshape": _reshape,
    "Transpose": _transpose,
}
