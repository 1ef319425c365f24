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

from crespr_onnx.layout import DROPPED, BoolArray, ChannelGraph, Layout
from crespr_onnx.training.allocate import Allocation
from crespr_onnx.training.channel_edges import ChannelEdge, FloatArray, channel_importance
from crespr_onnx.training.grow import grown_labels
from crespr_onnx.training.kept_sums import KeptSums, given, kept
from crespr_onnx.training.reassign import reassign, sides_by_group


@dataclass(frozen=True)
class ClusterSearch:
    """Effort of the search for labels.

    Attributes:
        starts: seeds to grow clusters from, the most important channels first, then at random; the
            best end is kept.
        sweeps: most passes over all groups per start.
    """

    starts: int = 2
    sweeps: int = 6


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
    """The best labels and selections found for an allocation; deterministic by seed."""
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
    # No gift is as large as the importance of all connections, which is 1.
    worth = gifts - 2.0 * ~there[:, None]
    ranked = np.argsort(-worth, axis=0, kind="stable")[:fan_in]
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
    sides = sides_by_group(graph, edges)
    value = -np.inf
    for _ in range(sweeps):
        for g, group in enumerate(graph.groups):
            if group.frozen is None:
                k, width = int(allocation.clusters[g]), int(allocation.widths[g])
                reassign(group.channels, k, width, sides[g], sums)
        _reselect(sums, edges, allocation)
        before, value = value, sums.kept(edges)
        if value <= before + 1e-12:
            break
    return sums.layout


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
