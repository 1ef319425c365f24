"""Which channels form a cluster: labels for all groups jointly.

The labels maximise the importance that stays inside clusters, the sum over edges of I[j, i] for
equal labels, with clusters of equal size. With the labels of its neighbours fixed, the best labels
of one group are a transportation problem: each channel goes to one of K clusters of fixed capacity,
or is dropped. It is solved exactly (scipy's linear_sum_assignment), group after group, so the
objective never falls; several random starts guard against poor local optima.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from crespr_onnx.layout import DROPPED, ChannelGraph, IntArray, Layout
from crespr_onnx.training.allocate import Allocation
from crespr_onnx.training.channel_edges import ChannelEdge, FloatArray, channel_importance


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
    return sum(_kept(graph, layout, e) for e in edges)


def log_kept(graph: ChannelGraph, layout: Layout, edges: tuple[ChannelEdge, ...]) -> float:
    """Sum over edges of log(share of its importance that is kept): 0 for a dense model."""
    return float(sum(np.log(max(_kept(graph, layout, e), 1e-12)) for e in edges))


def _kept(graph: ChannelGraph, layout: Layout, e: ChannelEdge) -> float:
    inputs, outputs = layout.labels[e.in_ids], layout.labels[e.out_ids]
    mask = (outputs != DROPPED)[:, None] & (inputs != DROPPED)[None, :]
    if layout.edge_clusters(graph, e.edge) > 1:
        mask = mask & (outputs[:, None] == inputs[None, :])
    return float(e.importance[mask].sum())


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
    value = objective(graph, current, edges)
    for _ in range(sweeps):
        before = value
        for g, group in enumerate(graph.groups):
            if group.frozen is not None:
                continue
            old = labels[group.channels].copy()
            gains = _gains(graph, current, edges, g)
            labels[group.channels] = _assign(gains, int(allocation.widths[g]))
            # An edge from a group to itself is quadratic in the labels, so the exact assignment
            # against its old labels may be worse: then the old ones stay.
            new = objective(graph, current, edges)
            if new < value:
                labels[group.channels] = old
            else:
                value = new
        if value <= before + 1e-12:
            break
    return current


def _gains(
    graph: ChannelGraph, layout: Layout, edges: tuple[ChannelEdge, ...], g: int
) -> FloatArray:
    """Importance kept if a channel of group g is in a cluster, shape [channels of g, K]."""
    group, k = graph.groups[g], int(layout.clusters[g])
    place = np.full(graph.n_channels, -1, dtype=np.int64)
    place[group.channels] = np.arange(len(group.channels))
    gains = np.zeros((len(group.channels), k))
    for e in edges:
        split = layout.edge_clusters(graph, e.edge) > 1
        sides = ((e.out_ids, e.in_ids, e.importance), (e.in_ids, e.out_ids, e.importance.T))
        for mine, other, importance in sides:
            rows = np.flatnonzero(graph.group_of[mine] == g)
            if not len(rows):
                continue
            there = layout.labels[other]
            here = importance[rows]
            if split:
                one_hot = np.eye(k)[np.maximum(there, 0)] * (there != DROPPED)[:, None]
                gains[place[mine[rows]]] += here @ one_hot
            else:
                gains[place[mine[rows]]] += (here @ (there != DROPPED))[:, None]
    return gains


def _assign(gains: FloatArray, width: int) -> IntArray:
    """Labels that maximise the summed gains with width/K channels in each cluster."""
    n, k = gains.shape
    columns = np.concatenate(
        [np.repeat(np.arange(k), width // k), np.full(n - width, DROPPED, dtype=np.int64)]
    )
    value = np.where(columns == DROPPED, 0.0, gains[:, np.maximum(columns, 0)])
    rows, chosen = linear_sum_assignment(value, maximize=True)
    labels = np.empty(n, dtype=np.int64)
    labels[rows] = columns[chosen]
    return labels
