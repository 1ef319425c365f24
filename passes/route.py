"""Emits the fewest nodes that show chosen channels of a tensor in a chosen order."""

import numpy as np
import onnx_ir as ir

from crespr_onnx.layout import ZERO, IntArray
from crespr_onnx.passes.edit import new_constant, new_node


def route(
    graph: ir.Graph,
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
        graph: where the constants go.
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
        return _run(graph, source, rank, axis, length, run, name)
    blocks = _as_blocks(positions, length)
    if blocks is None:
        return _gather(graph, source, rank, axis, length, positions, name)
    sizes = new_constant(graph, f"{name}/sizes", np.full(len(blocks), length // len(blocks)))
    split = new_node("Split", [source, sizes], f"{name}/Split", {"axis": axis}, outputs=len(blocks))
    nodes, ends = [split], []
    for k, block in enumerate(blocks):
        part = split.outputs[k]
        inner = _run(
            graph, part, rank, axis, length // len(blocks), block, f"{name}/module_{k:02d}"
        )
        nodes += inner
        ends.append(inner[-1].outputs[0] if inner else part)
    return [*nodes, new_node("Concat", ends, f"{name}/Concat", {"axis": axis})]


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
    for k in range(2, min(length, len(positions)) + 1):
        if length % k or len(positions) % k:
            continue
        size = length // k
        runs = []
        for i, block in enumerate(np.split(positions, k)):
            run = _as_run(np.where(block == ZERO, ZERO, block - i * size))
            if run is None or run[1] < 0 or run[1] + run[2] > size:
                break
            runs.append(run)
        if len(runs) == k:
            return runs
    return None


def _run(
    graph: ir.Graph, source: ir.Value, rank: int, axis: int, length: int, run: Run, name: str
) -> list[ir.Node]:
    before, start, count, after = run
    nodes: list[ir.Node] = []
    if (start, count) != (0, length):
        bounds = [
            new_constant(graph, f"{name}/{what}", np.array([value]))
            for what, value in (("starts", start), ("ends", start + count), ("axes", axis))
        ]
        nodes.append(new_node("Slice", [source, *bounds], f"{name}/Slice"))
        source = nodes[-1].outputs[0]
    if before or after:
        nodes.append(_pad(graph, source, rank, axis, before, after, name))
    return nodes


def _pad(
    graph: ir.Graph, source: ir.Value, rank: int, axis: int, before: int, after: int, name: str
) -> ir.Node:
    pads = np.zeros(2 * rank, dtype=np.int64)
    pads[axis], pads[rank + axis] = before, after
    return new_node("Pad", [source, new_constant(graph, f"{name}/pads", pads)], f"{name}/Pad")


def _gather(
    graph: ir.Graph,
    source: ir.Value,
    rank: int,
    axis: int,
    length: int,
    positions: IntArray,
    name: str,
) -> list[ir.Node]:
    nodes: list[ir.Node] = []
    if (positions == ZERO).any():
        # One channel of zeros at the end, for every ZERO to point at.
        nodes.append(_pad(graph, source, rank, axis, 0, 1, name))
        source = nodes[-1].outputs[0]
        positions = np.where(positions == ZERO, length, positions)
    indices = new_constant(graph, f"{name}/indices", positions.astype(np.int64))
    return [*nodes, new_node("Gather", [source, indices], f"{name}/Gather", {"axis": axis})]
