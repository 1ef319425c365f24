"""Ways to deal channels out to clusters before a search improves on it, to compare them.

All get the same channels and cluster sizes; they differ in who is in which cluster.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans, SpectralCoclustering

from crespr_onnx.layout import DROPPED, ChannelGraph, IntArray, Layout
from crespr_onnx.training.allocate import Allocation
from crespr_onnx.training.channel_edges import ChannelEdge, channel_importance
from crespr_onnx.training.cluster import improve, objective, random_labels, select
from crespr_onnx.training.grow import grown_labels, profiles
from crespr_onnx.training.transport import transport

FloatArray = NDArray[np.float64]
SWEEPS = 6


@dataclass(frozen=True, eq=False)
class Problem:
    """What is to be clustered.

    Attributes:
        graph: channels of the model.
        edges: importance of all connections.
        allocation: widths, cluster counts, and what clusters read.
    """

    graph: ChannelGraph
    edges: tuple[ChannelEdge, ...]
    allocation: Allocation

    def kept(self, layout: Layout) -> float:
        """Share of the importance that a layout keeps, mean of the edges."""
        return objective(layout, self.edges) / len(self.edges)

    def selected(self, layout: Layout) -> Layout:
        """The same labels, each cluster with the best inputs for it."""
        fan_in = self.allocation.fan_in
        chosen = {
            e.edge.name: select(e, layout, fan_in[e.edge.name])
            for e in self.edges
            if e.edge.name in fan_in
        }
        return replace(layout, selections=chosen)

    def improved(self, layout: Layout) -> Layout:
        """What the search makes of a start."""
        return improve(self.graph, self.edges, self.allocation, layout, SWEEPS)


def random_reads(problem: Problem, rng: np.random.Generator) -> Layout:
    """Random labels whose clusters read inputs at random."""
    layout = random_labels(problem.graph, problem.edges, problem.allocation, rng)
    chosen = {}
    for e in problem.edges:
        if e.edge.name in layout.selections:
            selection = np.zeros_like(layout.selections[e.edge.name])
            order = np.stack([rng.permutation(len(selection)) for _ in selection.T])
            # Inputs that are gone come last: only those that are there are worth reading.
            gone = ~layout.kept(e.in_ids)[order]
            order = np.take_along_axis(order, np.argsort(gone, axis=1, kind="stable"), axis=1)
            reads = order[:, : problem.allocation.fan_in[e.edge.name]].T
            np.put_along_axis(selection, reads, values=True, axis=0)
            chosen[e.edge.name] = selection
    return replace(layout, selections=chosen)


def settled(problem: Problem, rng: np.random.Generator) -> Layout:
    """Random labels of the channels that matter most while every cluster reads everything."""
    layout = random_labels(problem.graph, problem.edges, problem.allocation, rng)
    reading = layout.selections
    whole = replace(layout, selections={})
    layout = improve(problem.graph, problem.edges, problem.allocation, whole, 1)
    labels = layout.labels.copy()
    for group in problem.graph.groups:
        if group.frozen is None:
            members = group.channels[labels[group.channels] != DROPPED]
            labels[members] = rng.permutation(labels[members])
    return replace(layout, labels=labels, selections=reading)


def grown(problem: Problem, layout: Layout, rng: np.random.Generator) -> Layout:
    """Grown from the most important channels on: the first start of the library."""
    importance = channel_importance(problem.graph, problem.edges)
    return grown_labels(problem.graph, problem.edges, layout, np.argsort(-importance))


def grown_anywhere(problem: Problem, layout: Layout, rng: np.random.Generator) -> Layout:
    """Grown from channels at random."""
    order = rng.permutation(problem.graph.n_channels)
    return grown_labels(problem.graph, problem.edges, layout, order)


def spectral(problem: Problem, layout: Layout, rng: np.random.Generator) -> Layout:
    """Spectral co-clustering (Dhillon 2001) of what a group reads, made equally large."""

    def rows(found: FloatArray, k: int) -> IntArray:
        model = SpectralCoclustering(k, random_state=int(rng.integers(2**31)))
        labels: IntArray = model.fit(found**2 + 1e-12 * (found**2).max()).row_labels_
        return labels

    return _by_group(problem, layout, rows)


def k_means(problem: Problem, layout: Layout, rng: np.random.Generator) -> Layout:
    """k-means of the directions of the profiles, made equally large."""

    def rows(found: FloatArray, k: int) -> IntArray:
        model = KMeans(k, n_init=3, random_state=int(rng.integers(2**31)))
        labels: IntArray = model.fit_predict(_directions(found))
        return labels

    return _by_group(problem, layout, rows)


Start = Callable[[Problem, Layout, np.random.Generator], Layout]
STARTS: dict[str, Start] = {
    "random": lambda problem, layout, rng: layout,
    "grown": grown,
    "grown from random seeds": grown_anywhere,
    "spectral co-clustering": spectral,
    "balanced k-means": k_means,
}


def exchanged(problem: Problem, ends: Sequence[Layout]) -> Layout:
    """The better of several ends, with the clusters of the others group by group where that helps.

    Channels that stay are those of the better one; the others only say who belongs together.
    """
    best, *others = sorted(ends, key=problem.kept, reverse=True)
    for other in others:
        for group in problem.graph.groups:
            labels = best.labels.copy()
            labels[group.channels] = other.labels[group.channels]
            tried = problem.improved(problem.selected(replace(best, labels=labels)))
            best = max(best, tried, key=problem.kept)
    return best


def _by_group(
    problem: Problem, layout: Layout, rows: Callable[[FloatArray, int], IntArray]
) -> Layout:
    labels = layout.labels.copy()
    for g, group in enumerate(problem.graph.groups):
        k = int(layout.clusters[g])
        members = group.channels[labels[group.channels] != DROPPED]
        found = profiles(problem.edges, layout, members, k)
        if group.frozen is None and k > 1 and found.shape[1]:
            labels[members] = _balanced(_directions(found), rows(found, k), k)
    return replace(layout, labels=labels)


def _balanced(directions: FloatArray, rows: IntArray, k: int) -> IntArray:
    """Equally large clusters, each channel as close to the middle of its own as that allows."""
    middles = np.equal(np.arange(k)[:, None], rows) @ directions
    capacity = np.full(k, len(rows) // k, dtype=np.int64)
    return transport(directions @ _directions(middles).T, capacity)


def _directions(rows: FloatArray) -> FloatArray:
    directions: FloatArray = rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-300)
    return directions
