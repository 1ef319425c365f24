"""How operators that change the axes beside the channels compute parts of the channels."""

import math
from collections.abc import Sequence

import onnx_ir as ir

from crespr_onnx.passes.channel_parts import Parts, Rule, Sizes
from crespr_onnx.passes.forms import Step
from crespr_onnx.passes.surgery import constant, constant_ints, input_at, opset


def _merged(parts: Parts, value: ir.Value | None, sizes: Sizes) -> Sizes | None:
    """Channels of each part before [N, C, *space] became [N, C * space], if no channel is cut."""
    dims = parts.dims_of(value)
    if dims is None or len(dims) < 2:
        return None
    space = math.prod(dim or 0 for dim in dims[2:])
    if space == 0 or any(size % space for size in sizes) or dims[1] != sum(sizes) // space:
        return None
    return tuple(size // space for size in sizes)


def _flatten(parts: Parts, node: ir.Node, sizes: Sizes) -> Step[Sizes] | None:
    needed = _merged(parts, node.inputs[0], sizes)
    if needed is None or node.attributes.get_int("axis", 1) != 1:
        return None
    return parts.on_first_input(node, sizes, needed)


def _reshape(parts: Parts, node: ir.Node, sizes: Sizes) -> Step[Sizes] | None:
    """Only what a Flatten could do as well: [N, C, *space] to [N, C * space]."""
    data, shape = node.inputs[0], node.inputs[1]
    target, needed = constant_ints(shape), _merged(parts, data, sizes)
    if data is None or shape is None or needed is None:
        return None
    if node.attributes.get_int("allowzero", 0) != 0:
        return None
    if target == [0, -1]:
        return parts.on_first_input(node, sizes, needed)
    if target not in ([-1, sum(sizes)], [0, sum(sizes)]):
        return None
    batch = target[0]

    def build(index: int, given: Sequence[ir.Value]) -> ir.Node:
        own = parts.constant(shape, sizes, index, [batch, sizes[index]])
        return parts.copy(node, sizes, index, [given[0], own])

    return Step(((data, needed),), build)


def _axes(parts: Parts, node: ir.Node, position: int, rank: int | None) -> list[int] | None:
    """The axes of an operator, attribute or constant input, as numbers from 0; None if unknown."""
    axes = list(node.attributes.get_ints("axes", ())) or constant_ints(input_at(node, position))
    if not axes:
        return None
    if rank is None:
        return axes if min(axes) >= 0 else None
    return [axis + rank if axis < 0 else axis for axis in axes]


def _on_space(position: int, *, new_axes: bool = False) -> Rule:
    """The rule of operators that leave batch and channels alone if their axes lie behind."""

    def rule(parts: Parts, node: ir.Node, sizes: Sizes) -> Step[Sizes] | None:
        rank = parts.rank_of(node.outputs[0] if new_axes else node.inputs[0])
        axes = _axes(parts, node, position, rank)
        return parts.on_first_input(node, sizes) if axes and min(axes) >= 2 else None

    return rule


def _pad(parts: Parts, node: ir.Node, sizes: Sizes) -> Step[Sizes] | None:
    rank = parts.rank_of(node.inputs[0])
    pads = list(node.attributes.get_ints("pads", ())) or constant_ints(input_at(node, 1))
    axes = list(range(len(pads or ()) // 2))
    if input_at(node, 3) is not None:
        axes = _axes(parts, node, 3, rank) or []
    if not pads or 2 * len(axes) != len(pads):
        return None
    if any(before or after for axis, before, after in _pairs(axes, pads) if axis == 1):
        return None
    return parts.on_first_input(node, sizes)


def _pairs(axes: list[int], pads: list[int]) -> list[tuple[int, int, int]]:
    return list(zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True))


def _resize(parts: Parts, node: ir.Node, sizes: Sizes) -> Step[Sizes] | None:
    """Scales that keep the channels serve for every part; sizes name the channels of each."""
    if "axes" in node.attributes:
        return None
    before_11 = node.op_type == "Upsample" or opset(parts.model) < 11
    scales, shape = (input_at(node, 1 if before_11 else 2), input_at(node, 3))
    factors = constant(scales)
    if factors is not None and factors.size > 1:
        return parts.on_first_input(node, sizes) if factors.ravel()[1] == 1 else None
    data, target = node.inputs[0], constant_ints(shape)
    if data is None or shape is None or not target or target[1:2] != [sum(sizes)]:
        return None

    def build(index: int, given: Sequence[ir.Value]) -> ir.Node:
        own = parts.constant(shape, sizes, index, [target[0], sizes[index], *target[2:]])
        return parts.copy(node, sizes, index, [given[0], *node.inputs[1:3], own])

    return Step(((data, sizes),), build)


SHAPE_RULES: dict[str, Rule] = {
    "Flatten": _flatten,
    "Pad": _pad,
    "ReduceL1": _on_space(1),
    "ReduceL2": _on_space(1),
    "ReduceMax": _on_space(1),
    "ReduceMean": _on_space(1),
    "ReduceMin": _on_space(1),
    "ReduceSum": _on_space(1),
    "Reshape": _reshape,
    "Resize": _resize,
    "Slice": _on_space(3),
    "Squeeze": _on_space(1),
    "Unsqueeze": _on_space(1, new_axes=True),
    "Upsample": _resize,
}
