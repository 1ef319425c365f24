"""Clusters to start a search from, grown around seeds from outputs that read the same inputs.

Each cluster starts from one channel and takes in those that are most similar to what it has become:
by the cosine between the square roots of their importance profiles, the affinity of Bhattacharyya
(1943), which lets no single connection decide. A cluster doubles with each look at all channels, so
that the time is near linear in the number of weights.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from crespr_onnx.layout import DROPPED, ChannelGraph, IntArray, Layout
from crespr_onnx.training.channel_edges import ChannelEdge, FloatArray

_PROFILE = 512
"""Inputs that profiles compare, those that matter most to the group."""
_TINY = 1e-300


def grown_labels(
    graph: ChannelGraph,
    edges: Sequence[ChannelEdge],
    layout: Layout,
    order: Sequence[int] | IntArray,
) -> Layout:
    """Deals the kept channels of every group out to its clusters anew, by similarity.

    Args:
        graph: channels of the model.
        edges: importance of all connections.
        layout: says which channels stay, into how many clusters, and which edges select.
        order: all channel ids; seeds are taken in this order.

    Returns:
        The same channels in clusters of the same sizes, with the selections that were given.
    """
    labels = layout.labels.copy()
    rank = np.empty(graph.n_channels, dtype=np.int64)
    rank[np.asarray(order)] = np.arange(len(order))
    for g, group in enumerate(graph.groups):
        clusters = int(layout.clusters[g])
        members = group.channels[labels[group.channels] != DROPPED]
        if group.frozen is not None or clusters == 1:
            continue
        found = profiles(edges, layout, members, clusters)
        if found.shape[1]:
            labels[members] = _grow(found, np.argsort(rank[members]), clusters)
    return replace(layout, labels=labels)


def profiles(
    edges: Sequence[ChannelEdge], layout: Layout, members: IntArray, clusters: int
) -> FloatArray:
    """What channels take from the inputs that are there, by edges whose clusters choose them.

    Args:
        edges: importance of all connections.
        layout: says which inputs are there, and which edges select.
        members: ids of channels of one group, ascending.
        clusters: K of that group.

    Returns:
        Square roots of importance, of the inputs that matter most in each edge; edges side by side,
        shape [members, inputs].
    """
    parts = [np.zeros((len(members), 0))]
    for e in edges:
        selection = layout.selections.get(e.edge.name)
        rows = np.isin(e.out_ids, members, assume_unique=True)
        if selection is not None and selection.shape[1] == clusters and rows.any():
            places = np.searchsorted(members, e.out_ids[rows])
            there = layout.kept(e.in_ids)
            weight = np.where(there, rows @ e.importance, -1.0)
            read = np.argsort(-weight, kind="stable")[: min(_PROFILE, np.count_nonzero(there))]
            part = np.zeros((len(members), len(read)))
            part[places] = np.sqrt(e.importance[np.ix_(rows, read)])
            parts.append(part)
    return np.concatenate(parts, axis=1) if len(parts) > 2 else parts[-1]


def _grow(profiles: FloatArray, order: IntArray, clusters: int) -> IntArray:
    """A cluster for each profile, all of one size."""
    n = len(profiles)
    size = n // clusters
    norms = np.sqrt(np.einsum("ij,ij->i", profiles, profiles)) + _TINY
    labels = np.full(n, DROPPED, dtype=np.int64)
    for k in range(clusters):
        members = order[labels[order] == DROPPED][:1]
        labels[members] = k
        centre = profiles[members].sum(axis=0)
        left = size - 1
        while left:
            affinity = (profiles @ centre) / norms
            affinity[labels != DROPPED] = -np.inf
            step = min(left, size - left)
            joining = np.argsort(-affinity, kind="stable")[:step]
            labels[joining] = k
            centre = centre + profiles[joining].sum(axis=0)
            left -= step
    return labels
