"""Which channels form a cluster, and which inputs each cluster reads: for all groups jointly.

Both maximise the importance that is kept, the sum over edges of I[j, i] over the connections that
are stored: those of output j with the inputs i that its cluster reads. Clusters of one group are
equally large, and all clusters of one edge read equally many inputs. With everything else fixed,
the best labels of one group are a transportation problem (each channel goes to one of K clusters of
fixed capacity, or is dropped), and the best selection of one edge is the inputs with the largest
sums for each cluster. Both are solved exactly, one after the other, so the objective never falls;
several random starts guard against poor local optima.
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
        starts: random starts, of which the best end is kept.
        sweeps: most passes over all groups per start.
    """

    starts: int = 6
    sweeps: int = 12


def objective(layout: Layout, edges: Sequence[ChannelEdge]) -> float:
    """Importance that is kept, summed over edges; at most the number of edges."""
    return float(sum(_kept(e, layout) for e in edges))


def log_kept(layout: Layout, edges: Sequence[ChannelEdge]) -> float:
    """Sum over edges of log(share of its importance that is kept): 0 for a dense model."""
    return float(sum(np.log(max(_kept(e, layout), 1e-12)) for e in edges))


def _kept(e: ChannelEdge, layout: Layout) -> float:
    kept = e.importance * layout.kept(e.out_ids)[:, None]
    selection = layout.selections.get(e.edge.name)
    if selection is None:
        return float((kept.sum(axis=0) * layout.kept(e.in_ids)).sum())
    read = selection & layout.kept(e.in_ids)[:, None]
    return float(((kept.T @ _one_hot(layout.labels[e.out_ids], selection.shape[1])) * read).sum())


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
    best, best_value = None, -np.inf
    for _ in range(search.starts if allocation.clusters.max() > 1 else 1):
        start = random_labels(graph, edges, allocation, rng)
        layout = improve(graph, edges, allocation, start, search.sweeps)
        value = objective(layout, edges)
        if value > best_value + 1e-12:
            best, best_value = layout, value
    assert best is not None
    return best


def select(e: ChannelEdge, layout: Layout, fan_in: int) -> BoolArray:
    """The inputs that matter most to each cluster of an edge's outputs, shape [n_in, K].

    Dropped channels are read only where nothing else is left to read.
    """
    clusters = layout.selections[e.edge.name].shape[1]
    gain = e.importance.T @ _one_hot(layout.labels[e.out_ids], clusters)
    gain[~layout.kept(e.in_ids)] -= 1.0 + e.importance.sum()
    ranked = np.argsort(-gain, axis=0, kind="stable")[:fan_in]
    selection = np.zeros(gain.shape, dtype=np.bool_)
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
    labels = layout.labels.copy()
    current = Layout(labels, layout.clusters, dict(layout.selections))
    touching = _edges_by_group(graph, edges)
    value = -np.inf
    for _ in range(sweeps):
        for g, group in enumerate(graph.groups):
            if group.frozen is not None:
                continue
            old, near, width = labels[group.channels].copy(), touching[g], allocation.widths[g]
            kept = objective(current, near)
            gains = _gains(graph, current, near, g)
            labels[group.channels] = _assign(gains, int(width))
            # An edge from a group to itself is quadratic in the labels, so the exact assignment
            # against its old labels may be worse: then the old ones stay, if they are as many.
            if (old != DROPPED).sum() == width and objective(current, near) < kept:
                labels[group.channels] = old
        selections = {
            e.edge.name: select(e, current, allocation.fan_in[e.edge.name])
            for e in edges
            if e.edge.name in current.selections
        }
        current = replace(current, selections=selections)
        before, value = value, objective(current, edges)
        if value <= before + 1e-12:
            break
    return current


def _edges_by_group(graph: ChannelGraph, edges: tuple[ChannelEdge, ...]) -> list[list[ChannelEdge]]:
    """For each group the edges that read or write it."""
    touching: list[list[ChannelEdge]] = [[] for _ in graph.groups]
    for e in edges:
        for g in graph.groups_on(np.concatenate([e.in_ids, e.out_ids])):
            touching[g].append(e)
    return touching


def _gains(graph: ChannelGraph, layout: Layout, edges: Sequence[ChannelEdge], g: int) -> FloatArray:
    """Importance kept if a channel of group g is in a cluster, shape [channels of g, K]."""
    group, k = graph.groups[g], int(layout.clusters[g])
    gains = np.zeros((len(group.channels), k))
    for e in edges:
        selection = layout.selections.get(e.edge.name)
        for ids, gain in ((e.out_ids, _as_output), (e.in_ids, _as_input)):
            rows = np.flatnonzero(graph.group_of[ids] == g)
            if len(rows):
                places = np.searchsorted(group.channels, ids[rows])
                np.add.at(gains, places, gain(e, layout, selection, rows))
    return gains


def _as_output(
    e: ChannelEdge, layout: Layout, selection: BoolArray | None, rows: IntArray
) -> FloatArray:
    """What outputs keep in each cluster: [rows, K], or [rows, 1] where it makes no difference."""
    read = layout.kept(e.in_ids)[:, None]
    gain: FloatArray = e.importance[rows] @ (read if selection is None else selection & read)
    return gain


def _as_input(
    e: ChannelEdge, layout: Layout, selection: BoolArray | None, rows: IntArray
) -> FloatArray:
    """What is kept of inputs if they stay, in whichever cluster: [rows, 1]."""
    labels = layout.labels[e.out_ids]
    if selection is None:
        kept: FloatArray = (labels != DROPPED) @ e.importance[:, rows]
        return kept[:, None]
    per_cluster = e.importance[:, rows].T @ _one_hot(labels, selection.shape[1])
    return np.asarray((per_cluster * selection[rows]).sum(axis=1, keepdims=True))


def _one_hot(labels: IntArray, k: int) -> FloatArray:
    return np.equal(labels[:, None], np.arange(k)).astype(np.float64)


def _assign(gains: FloatArray, width: int) -> IntArray:
    """Labels that maximise the summed gains with width/K channels in each cluster."""
    n, k = gains.shape
    capacity = np.array([width // k] * k + [n - width], dtype=np.int64)
    bins = transport(np.column_stack([gains, np.zeros(n)]), capacity)
    return np.where(bins == k, DROPPED, bins)
