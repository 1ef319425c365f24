"""The best labels of one channel group while all others stay: a transportation problem."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from crespr_onnx.layout import DROPPED, ChannelGraph, IntArray
from crespr_onnx.training.channel_edges import ChannelEdge, FloatArray
from crespr_onnx.training.kept_sums import KeptSums
from crespr_onnx.training.transport import transport


@dataclass(frozen=True, eq=False)
class Side:
    """One side of an edge, as far as it carries one group.

    Attributes:
        e: the edge.
        is_output: whether it is the side of the outputs.
        rows: positions on that side that carry the group.
        places: which channel of the group each of them carries.
        repeats: whether some of them carry the same channel, as after a flatten.
    """

    e: ChannelEdge
    is_output: bool
    rows: IntArray
    places: IntArray
    repeats: bool


def sides_by_group(graph: ChannelGraph, edges: Sequence[ChannelEdge]) -> list[list[Side]]:
    """For each group the sides of edges that carry it."""
    sides: list[list[Side]] = [[] for _ in graph.groups]
    for e in edges:
        for is_output, ids in ((True, e.out_ids), (False, e.in_ids)):
            on = graph.group_of[ids]
            for g in np.unique(on):
                rows = np.flatnonzero(on == g)
                places = np.searchsorted(graph.groups[g].channels, ids[rows])
                repeats = len(np.unique(places)) < len(places)
                sides[g].append(Side(e, is_output, rows, places, repeats))
    return sides


def reassign(
    channels: IntArray, clusters: int, width: int, sides: Sequence[Side], sums: KeptSums
) -> None:
    """Gives the channels of one group their best labels, in place; what is kept never falls.

    Args:
        channels: ids of the group.
        clusters: K of the group.
        width: how many of its channels stay, a multiple of K.
        sides: where edges carry it.
        sums: the layout as it is, which is changed.
    """
    new = _assign(_gains(len(channels), clusters, sides, sums), width)
    old = sums.layout.labels[channels]
    if np.array_equal(new, old):
        return
    near = list({side.e.edge.name: side.e for side in sides}.values())
    # An edge from a group to itself is quadratic in the labels, so the exact assignment against its
    # old labels may be worse: then the old ones stay, if they are as many.
    doubtful = len(near) < len(sides) and np.count_nonzero(old != DROPPED) == width
    before = sums.kept(near) if doubtful else -np.inf
    _relabel(channels, new, sides, sums)
    if doubtful and sums.kept(near) < before:
        _relabel(channels, old, sides, sums)


def _relabel(channels: IntArray, new: IntArray, sides: Sequence[Side], sums: KeptSums) -> None:
    labels = sums.layout.labels.copy()
    same_stay = np.array_equal(labels[channels] == DROPPED, new == DROPPED)
    labels[channels] = new
    sums.layout = replace(sums.layout, labels=labels)
    for side in sides:
        if side.is_output:
            sums.outputs_changed(side.e)
        elif not same_stay:
            sums.reading_changed(side.e)


def _gains(channels: int, clusters: int, sides: Sequence[Side], sums: KeptSums) -> FloatArray:
    """Importance kept if a channel of a group is in a cluster, shape [channels, K]."""
    gains = np.zeros((channels, clusters))
    for side in sides:
        if side.is_output:
            gain = sums.received(side.e)[side.rows]
        else:
            # What is kept of an input if it stays is the same in whichever cluster.
            gain = sums.given(side.e)[side.rows]
            selection = sums.layout.selections.get(side.e.edge.name)
            if selection is not None:
                gain = np.sum(gain, axis=1, where=selection[side.rows], keepdims=True)
        if side.repeats:
            np.add.at(gains, side.places, gain)
        else:
            gains[side.places] += gain
    return gains


def _assign(gains: FloatArray, width: int) -> IntArray:
    """Labels that maximise the summed gains with width/K channels in each cluster."""
    n, k = gains.shape
    capacity = np.array([width // k] * k + [n - width], dtype=np.int64)
    bins = transport(np.column_stack([gains, np.zeros(n)]), capacity)
    return np.where(bins == k, DROPPED, bins)
