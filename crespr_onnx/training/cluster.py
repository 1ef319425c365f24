"""Which channels form a cluster: labels for all groups jointly.

The labels maximise the importance that stays inside clusters, the sum over edges of I[j, i] for
equal labels, with clusters of equal size. With the labels of its neighbours fixed, the best labels
of one group are a transportation problem: each channel goes to one of K clusters of fixed capacity,
or is dropped. It is solved exactly, group after group, so the objective never falls; several
random starts guard against poor local optima.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from crespr_onnx.layout import DROPPED, ChannelGraph, IntArray, Layout
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


def objective(graph: ChannelGraph, layout: Layout, edges: tuple[ChannelEdge, ...]) -> float:
    """Importance kept inside clusters, summed over edges; at most the number of edges."""
    return float(sum(_kept(e, layout.labels, _is_split(graph, layout, e)) for e in edges))


def log_kept(graph: ChannelGraph, layout: Layout, edges: tuple[ChannelEdge, ...]) -> float:
    """Sum over edges of log(share of its importance that is kept): 0 for a dense model."""
    kept = (_kept(e, layout.labels, _is_split(graph, layout, e)) for e in edges)
    return float(sum(np.log(max(share, 1e-12)) for share in kept))


def _is_split(graph: ChannelGraph, layout: Layout, e: ChannelEdge) -> bool:
    return layout.edge_clusters(graph, e.edge) > 1


def _kept(e: ChannelEdge, labels: IntArray, split: bool) -> float:
    inputs, outputs = labels[e.in_ids], labels[e.out_ids]
    mask = (outputs != DROPPED)[:, None] & (inputs != DROPPED)[None, :]
    if split:
        mask &= outputs[:, None] == inputs[None, :]
    return float(e.importance[mask].sum())


def _kept_in(edges: Sequence[ChannelEdge], labels: IntArray, split: Mapping[str, bool]) -> float:
    return sum(_kept(e, labels, split[e.edge.name]) for e in edges)


def random_labels(
    graph: ChannelGraph,
    edges: tuple[ChannelEdge, ...],
    allocation: Allocation,
    rng: np.random.Generator,
) -> Layout:
    """The most important channels of each group, dealt out to its clusters at random."""
    scores = channel_importance(graph, edges)
    labels = np.zeros(graph.n_channels, dtype=np.int64)
    for g, group in enumerate(graph.groups):
        if group.frozen is not None:
            continue
        k, width = int(allocation.clusters[g]), int(allocation.widths[g])
        ranked = group.channels[np.argsort(-scores[group.channels], kind="stable")]
        labels[ranked[width:]] = DROPPED
        labels[ranked[:width]] = rng.permutation(np.repeat(np.arange(k), width // k))
    return Layout(labels, allocation.clusters)


def cluster(
    graph: ChannelGraph,
    edges: tuple[ChannelEdge, ...],
    allocation: Allocation,
    seed: int,
    search: ClusterSearch | None = None,
) -> Layout:
    """The best labels found for given widths and cluster counts; deterministic by seed."""
    search = search or ClusterSearch()
    rng = np.random.default_rng(seed)
    best, best_value = None, -np.inf
    for _ in range(search.starts if allocation.clusters.max() > 1 else 1):
        start = random_labels(graph, edges, allocation, rng)
        layout = improve(graph, edges, allocation, start, search.sweeps)
        value = objective(graph, layout, edges)
        if value > best_value + 1e-12:
            best, best_value = layout, value
    assert best is not None
    return best


def improve(
    graph: ChannelGraph,
    edges: tuple[ChannelEdge, ...],
    allocation: Allocation,
    layout: Layout,
    sweeps: int,
) -> Layout:
    """Reassigns one group after another until no group changes; the objective never falls."""
    labels = layout.labels.copy()
    current = Layout(labels, layout.clusters)
    touching = _edges_by_group(graph, edges)
    split = {e.edge.name: _is_split(graph, layout, e) for e in edges}
    # A group whose neighbours stay as they were would be given the labels that it has.
    free = {g for g, group in enumerate(graph.groups) if group.frozen is None}
    stale = free.copy()
    value = _kept_in(edges, labels, split)
    for _ in range(sweeps):
        before = value
        for g, group in enumerate(graph.groups):
            if g not in stale:
                continue
            stale.remove(g)
            old, near = labels[group.channels].copy(), touching[g]
            kept = _kept_in(near, labels, split)
            gains = _gains(graph, current, near, g, split)
            labels[group.channels] = _assign(gains, int(allocation.widths[g]))
            # An edge from a group to itself is quadratic in the labels, so the exact assignment
            # against its old labels may be worse: then the old ones stay.
            if _kept_in(near, labels, split) < kept:
                labels[group.channels] = old
            if not np.array_equal(labels[group.channels], old):
                stale |= free.intersection(n for e in near for n in _groups_of(graph, e))
        value = _kept_in(edges, labels, split)
        if value <= before + 1e-12:
            break
    return current


def _edges_by_group(graph: ChannelGraph, edges: tuple[ChannelEdge, ...]) -> list[list[ChannelEdge]]:
    """For each group the edges that read or write it."""
    touching: list[list[ChannelEdge]] = [[] for _ in graph.groups]
    for e in edges:
        for g in _groups_of(graph, e):
            touching[g].append(e)
    return touching


def _groups_of(graph: ChannelGraph, e: ChannelEdge) -> list[int]:
    return graph.groups_on(np.concatenate([e.in_ids, e.out_ids]))


def _gains(
    graph: ChannelGraph,
    layout: Layout,
    edges: Sequence[ChannelEdge],
    g: int,
    split: Mapping[str, bool],
) -> FloatArray:
    """Importance kept if a channel of group g is in a cluster, shape [channels of g, K]."""
    group, k = graph.groups[g], int(layout.clusters[g])
    gains = np.zeros((len(group.channels), k))
    for e in edges:
        sides = ((e.out_ids, e.in_ids, e.importance), (e.in_ids, e.out_ids, e.importance.T))
        for mine, other, importance in sides:
            rows = np.flatnonzero(graph.group_of[mine] == g)
            if not len(rows):
                continue
            there = layout.labels[other]
            here = importance[rows]
            places = np.searchsorted(group.channels, mine[rows])
            if split[e.edge.name]:
                one_hot = np.eye(k)[np.maximum(there, 0)] * (there != DROPPED)[:, None]
                gains[places] += here @ one_hot
            else:
                gains[places] += (here @ (there != DROPPED))[:, None]
    return gains


def _assign(gains: FloatArray, width: int) -> IntArray:
    """Labels that maximise the summed gains with width/K channels in each cluster."""
    n, k = gains.shape
    capacity = np.array([width // k] * k + [n - width], dtype=np.int64)
    bins = transport(np.column_stack([gains, np.zeros(n)]), capacity)
    return np.where(bins == k, DROPPED, bins)
