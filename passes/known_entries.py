"""What is known of shape arithmetic: the entries of small integer tensors, some of them symbols."""

from collections.abc import Callable, Mapping

import onnx_ir as ir

from crespr_onnx.passes.surgery import constant_ints, input_at

Entry = int | str | None
"""A number, the name of a symbolic dimension, or nothing known."""

_MOST_NODES = 32
"""Longest chain of nodes that is followed."""


def known_entries(value: ir.Value | None, depth: int = _MOST_NODES) -> list[Entry] | None:
    """The entries of a tensor of at most one axis, or None if not even their number is known.

    Exporters write the target of a Reshape with these operators: Shape, Gather, Slice, Concat,
    Squeeze, Unsqueeze, Cast and arithmetic on single numbers.
    """
    constant = constant_ints(value)
    if constant is not None:
        return list(constant)
    node = value.producer() if value is not None else None
    if node is None or depth == 0 or node.domain != "" or node.op_type not in _ENTRIES:
        return None
    return _ENTRIES[node.op_type](node, depth - 1)


def _shape(node: ir.Node, depth: int) -> list[Entry] | None:
    data = node.inputs[0]
    if data is None or data.shape is None:
        return None
    dims: list[Entry] = [d if isinstance(d, int) else d.value for d in data.shape]
    start, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", len(dims))
    return dims[start:end]


def _gather(node: ir.Node, depth: int) -> list[Entry] | None:
    source, picked = known_entries(node.inputs[0], depth), constant_ints(node.inputs[1])
    if source is None or picked is None or any(not -len(source) <= i < len(source) for i in picked):
        return None
    return [source[i] for i in picked]


def _slice(node: ir.Node, depth: int) -> list[Entry] | None:
    source = known_entries(node.inputs[0], depth)
    start, end = (constant_ints(input_at(node, i)) for i in (1, 2))
    step = constant_ints(input_at(node, 4)) if input_at(node, 4) is not None else [1]
    if source is None or not start or not end or not step or step[0] == 0:
        return None
    return source[start[0] : end[0] : step[0]]


def _concat(node: ir.Node, depth: int) -> list[Entry] | None:
    parts = [known_entries(value, depth) for value in node.inputs]
    whole = [entry for part in parts if part is not None for entry in part]
    return whole if None not in parts else None


def _same(node: ir.Node, depth: int) -> list[Entry] | None:
    return known_entries(node.inputs[0], depth)


def _arithmetic(compute: Callable[[int, int], int]) -> Callable[[ir.Node, int], list[Entry] | None]:
    def entries(node: ir.Node, depth: int) -> list[Entry] | None:
        left, right = (known_entries(value, depth) for value in node.inputs)
        if left is None or right is None or len(left) != 1 or len(right) != 1:
            return None
        a, b = left[0], right[0]
        # Division rounds otherwise below zero; sizes are positive.
        if isinstance(a, int) and isinstance(b, int) and min(a, b) > 0:
            return [compute(a, b)]
        return [None]

    return entries


Rule = Callable[[ir.Node, int], list[Entry] | None]

_ENTRIES: Mapping[str, Rule] = {
    "Add": _arithmetic(lambda a, b: a + b),
    "Cast": _same,
    "Concat": _concat,
    "Div": _arithmetic(lambda a, b: a // b),
    "Gather": _gather,
    "Mul": _arithmetic(lambda a, b: a * b),
    "Shape": _shape,
    "Slice": _slice,
    "Squeeze": _same,
    "Sub": _arithmetic(lambda a, b: a - b),
    "Unsqueeze": _same,
}
