"""Which channels form a cluster, and which inputs each cluster reads: for all groups jointly.

Both maximise the importance that is kept, the sum over edges of I[j, i] over the connections that
are stored: those of output j with the inputs i that its cluster reads. Clusters of one group are
equally large, and all clusters of one edge read equally many inputs. With everything else fixed,
the best labels of one group are a transportation problem (each channel goes to one of K clusters of
fixed capacity, or is dropped), and the best selection of one edge is the inputs with the largest
sums for each cluster. Both are solved exactly, one after the other, so the objective never falls.
The search starts from clusters grown around seeds (grow.py), and several starts guard against poor
local optima.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from crespr_onnx.layout import DROPPED, BoolArray, ChannelGraph, IntArray, Layout
from crespr_onnx.training.allocate import Allocation
from crespr_onnx.training.channel_edges import ChannelEdge, FloatArray, channel_importance
from crespr_onnx.training.transport import transport


@dataclass(frozen=True)
class ClusterSearch:
    """Effort of the search for labels.

    Attributes:
        starts: seeds to grow clusters from, the most important channels first, then at random; the
            best end is kept.
        sweeps: most passes over all groups per start.
    """

    starts: int = 4
    sweeps: int = 12


def objective(layout: Layout, edges: Sequence[ChannelEdge]) -> float:
    """Importance that is kept, summed over edges; at most the number of edges."""
    return sum(kept(e, layout) for e in edges)


def log_kept(layout: Layout, edges: Sequence[ChannelEdge]) -> float:
    """Sum over edges of log(share of its importance that is kept): 0 for a dense model."""
    return float(sum(np.log(max(kept(e, layout), 1e-12)) for e in edges))


def random_labels(
    graph: ChannelGraph,
    edges: tuple[ChannelEdge, ...],
    allocation: Allocation,
    rng: np.random.Generator,
) -> Layout:
    """The most important channels of each group, dealt out at random to clusters that read all."""
    scores = channel_importance(graph, edges)
    labels = np.zeros(graph.n_channels, dtype=np.int64)
    for g, group in enumerate(graph.groups):
        if group.frozen is not None:
            continue
        k, width = int(allocation.clusters[g]), int(allocation.widths[g])
        ranked = group.channels[np.argsort(-scores[group.channels], kind="stable")]
        labels[ranked[width:]] = DROPPED
        labels[ranked[:width]] = rng.permutation(np.repeat(np.arange(k), width // k))
    layout = Layout(labels, allocation.clusters)
    return replace(
        layout,
        selections={
            e.edge.name: np.ones((len(e.in_ids), layout.axis_clusters(graph, e.out_ids)), np.bool_)
            for e in edges
            if e.edge.name in allocation.fan_in
        },
    )


def cluster(
    graph: ChannelGraph,
    edges: tuple[ChannelEdge, ...],
    allocation: Allocation,
    seed: int,
    search: ClusterSearch | None = None,
) -> Layout:
    """The best labels and selections found for an allocation; deterministic by seed.

    Where all clusters read everything, none suits a channel better than another, and labels at
    random are forgotten. So that is only the first start; the others select for their labels.
    """
    search = search or ClusterSearch()
    rng = np.random.default_rng(seed)
    # Which channels stay shows best while every cluster still reads everything.
    layout = random_labels(graph, edges, allocation, rng)
    reading = layout.selections
    layout = improve(graph, edges, allocation, replace(layout, selections={}), 1)
    layout = replace(layout, selections=reading)
    order = np.argsort(-channel_importance(graph, edges), kind="stable")
    best, best_value = None, -np.inf
    for _ in range(search.starts if allocation.clusters.max() > 1 else 1):
        start = grown_labels(graph, edges, layout, order)
        order = rng.permutation(graph.n_channels)
        sums = KeptSums(start)
        _reselect(sums, edges, allocation)
        end = _improve(graph, edges, allocation, sums, search.sweeps)
        value = sums.kept(edges)
        if value > best_value + 1e-12:
            best, best_value = end, value
    assert best is not None
    return best


def select(e: ChannelEdge, layout: Layout, fan_in: int) -> BoolArray:
    """The inputs that matter most to each cluster of an edge's outputs, shape [n_in, K].

    Dropped channels are read only where nothing else is left to read.
    """
    return _largest(given(e, layout), layout.kept(e.in_ids), fan_in)


def _largest(gifts: FloatArray, there: BoolArray, fan_in: int) -> BoolArray:
    ranked = np.argsort(np.where(there[:, None], -gifts, np.inf), axis=0, kind="stable")[:fan_in]
    selection = np.zeros(gifts.shape, dtype=np.bool_)
    np.put_along_axis(selection, ranked, values=True, axis=0)
    return selection


def improve(
    graph: ChannelGraph,
    edges: tuple[ChannelEdge, ...],
    allocation: Allocation,
    layout: Layout,
    sweeps: int,
) -> Layout:
    """Reassigns one group after another, then selects anew, until nothing changes.

    The objective never falls, once every cluster reads no more than the allocation grants it.
    """
    return _improve(graph, edges, allocation, KeptSums(layout), sweeps)


def _improve(
    graph: ChannelGraph,
    edges: tuple[ChannelEdge, ...],
    allocation: Allocation,
    sums: KeptSums,
    sweeps: int,
) -> Layout:
    sides = _sides_by_group(graph, edges)
    value = -np.inf
    for _ in range(sweeps):
        for g, group in enumerate(graph.groups):
            if group.frozen is None:
                _reassign(group.channels, int(allocation.widths[g]), sides[g], sums)
        _reselect(sums, edges, allocation)
        before, value = value, sums.kept(edges)
        if value <= before + 1e-12:
            break
    return sums.layout


@dataclass(frozen=True, eq=False)
class _Side:
    """Where a group is on one side of an edge: `rows` of that side are its channels `places`."""

    e: ChannelEdge
    is_output: bool
    rows: IntArray
    places: IntArray


def _sides_by_group(graph: ChannelGraph, edges: tuple[ChannelEdge, ...]) -> list[list[_Side]]:
    """For each group the sides of edges that carry it."""
    sides: list[list[_Side]] = [[] for _ in graph.groups]
    for e in edges:
        for is_output, ids in ((True, e.out_ids), (False, e.in_ids)):
            on = graph.group_of[ids]
            for g in np.unique(on):
                rows = np.flatnonzero(on == g)
                places = np.searchsorted(graph.groups[g].channels, ids[rows])
                sides[g].append(_Side(e, is_output, rows, places))
    return sides


def _reassign(channels: IntArray, width: int, sides: list[_Side], sums: KeptSums) -> None:
    """Gives the channels of one group the best labels against all that the others have."""
    current = sums.layout
    new = _assign(_gains(current, sides, len(channels), sums), width)
    old = current.labels[channels]
    if np.array_equal(new, old):
        return
    near = {side.e.edge.name: side.e for side in sides}.values()
    # An edge from a group to itself is quadratic in the labels, so the exact assignment against its
    # old labels may be worse: then the old ones stay, if they are as many.
    doubtful = len(near) < len(sides) and np.count_nonzero(old != DROPPED) == width
    before = sums.kept(list(near)) if doubtful else -np.inf
    _relabel(channels, new, sides, sums)
    if doubtful and sums.kept(list(near)) < before:
        _relabel(channels, old, sides, sums)


def _relabel(channels: IntArray, new: IntArray, sides: list[_Side], sums: KeptSums) -> None:
    labels = sums.layout.labels.copy()
    others_stay = not np.array_equal(labels[channels] == DROPPED, new == DROPPED)
    labels[channels] = new
    sums.layout = replace(sums.layout, labels=labels)
    for side in sides:
        if side.is_output:
            sums.outputs_changed(side.e)
        elif others_stay:
            sums.reading_changed(side.e)


def _reselect(sums: KeptSums, edges: Sequence[ChannelEdge], allocation: Allocation) -> None:
    """Lets every edge that selects read what matters most to its clusters as they are."""
    selections = dict(sums.layout.selections)
    for e in edges:
        name = e.edge.name
        if name in selections:
            there = sums.layout.kept(e.in_ids)
            chosen = _largest(sums.given(e), there, allocation.fan_in[name])
            if not np.array_equal(chosen, selections[name]):
                selections[name] = chosen
                sums.reading_changed(e)
    sums.layout = replace(sums.layout, selections=selections)


def _gains(layout: Layout, sides: list[_Side], channels: int, sums: KeptSums) -> FloatArray:
    """Importance kept if a channel of a group is in a cluster: [channels, K], or 1 for all K."""
    k = max(layout_clusters(side, layout) for side in sides)
    return np.zeros((channels, k))


def _assign(gains: FloatArray, width: int) -> IntArray:
    """Labels that maximise the summed gains with width/K channels in each cluster."""
    n, k = gains.shape
    capacity = np.array([width // k] * k + [n - width], dtype=np.int64)
    bins = transport(np.column_stack([gains, np.zeros(n)]), capacity)
    return np.where(bins == k, DROPPED, bins)
