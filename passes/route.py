"""Shows chosen channels of a tensor in a chosen order.

Clusters become branches of their own where a Concat meets a Split, so blocks are kept apart where
channels stay within their block.
"""

import numpy as np
import onnx_ir as ir

from crespr_onnx.layout import ZERO, IntArray
from crespr_onnx.passes.edit import Editor

MOST_BLOCKS = 32
"""With more blocks a Gather is used: Concats of so many parts are slow."""


def route(
    editor: Editor,
    source: ir.Value,
    rank: int,
    axis: int,
    length: int,
    positions: IntArray,
    name: str,
) -> list[ir.Node]:
    """Nodes, not yet inserted, whose last output shows `positions` of `source` along `axis`.

    In order of preference: nothing, one Slice and Pad, the same within each of several equal
    blocks between a Split and a Concat, a Gather.

    Args:
        editor: makes the nodes.
        source: tensor to take channels from.
        rank: its number of dimensions.
        axis: its channel axis.
        length: its number of channels.
        positions: channel of the source per channel of the result, or ZERO.
        name: prefix for the new nodes.
    """
    if np.array_equal(positions, np.arange(length)):
        return []
    run = _as_run(positions)
    if run is not None:
        return _run(editor, source, rank, axis, length, run, name)
    nodes: list[ir.Node] = []
    blocks = _as_blocks(positions, length)
    if blocks is None:
        if (positions == ZERO).any():
            # One channel of zeros at the end, for every ZERO to point at.
            nodes.append(editor.pad(source, rank, axis, 0, 1, name))
            source = nodes[-1].outputs[0]
            positions = np.where(positions == ZERO, length, positions)
        indices = editor.constant(f"{name}/indices", positions.astype(np.int64))
        return [*nodes, editor.node("Gather", [source, indices], f"{name}/Gather", {"axis": axis})]
    size = length // len(blocks)
    split = editor.split(source, axis, [size] * len(blocks), name)
    nodes.append(split)
    ends: list[ir.Value] = []
    for k, (part, block) in enumerate(zip(split.outputs, blocks, strict=True)):
        inner = _run(editor, part, rank, axis, size, block, f"{name}/module_{k:02d}")
        nodes += inner
        ends.append(inner[-1].outputs[0] if inner else part)
    return [*nodes, editor.node("Concat", ends, f"{name}/Concat", {"axis": axis})]


Run = tuple[int, int, int, int]
"""Zeros before, first position, number of positions, zeros after."""


def _as_run(positions: IntArray) -> Run | None:
    """Reads positions as consecutive ones with zeros around them, if they are that."""
    (real,) = np.nonzero(positions != ZERO)
    if not len(real):
        return None
    first, last = int(real[0]), int(real[-1]) + 1
    start = int(positions[first])
    if not np.array_equal(positions[first:last], np.arange(start, start + last - first)):
        return None
    return first, start, last - first, len(positions) - last


def _as_blocks(positions: IntArray, length: int) -> list[Run] | None:
    """Reads positions as the same kind of run in each of K blocks, for the least such K."""
    for k in range(2, min(length, len(positions), MOST_BLOCKS) + 1):
        if length % k or len(positions) % k:
            continue
        size = length // k
        runs = []
        for i, block in enumerate(np.split(positions, k)):
            run = _as_run(block)
            if run is None or run[1] < i * size or run[1] + run[2] > (i + 1) * size:
                break
            before, start, count, after = run
            runs.append((before, start - i * size, count, after))
        if len(runs) == k:
            return runs
    return None


def _run(
    editor: Editor, source: ir.Value, rank: int, axis: int, length: int, run: Run, name: str
) -> list[ir.Node]:
    before, start, count, after = run
    nodes: list[ir.Node] = []
    if (start, count) != (0, length):
        nodes.append(editor.slice(source, axis, start, start + count, name))
        source = nodes[-1].outputs[0]
    if before or after:
        nodes.append(editor.pad(source, rank, axis, before, after, name))
    return nodes
