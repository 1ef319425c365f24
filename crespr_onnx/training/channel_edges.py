"""Importance by channel: the form in which clustering and allocation read it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crespr_onnx.layout import ChannelGraph, IntArray, WeightedEdge

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ChannelEdge:
    """A weighted edge with the output positions of each channel added up.

    Attributes:
        edge: the edge.
        in_ids: channel id per input position (a flatten repeats channels), shape [n_in].
        out_ids: distinct channel ids on its output side.
        importance: of each connection, shape [len(out_ids), n_in], summing to 1.
    """

    edge: WeightedEdge
    in_ids: IntArray
    out_ids: IntArray
    importance: FloatArray


def channel_edges(
    graph: ChannelGraph, importance: Mapping[str, FloatArray]
) -> tuple[ChannelEdge, ...]:
    """Sums importance by channel, and scales it so that every edge counts the same.

    Without that scale the layer with the largest numbers would be all that clustering sees.
    """
    result = []
    for edge in graph.edges:
        if edge.frozen is not None:
            continue
        summed, out_ids = _by_channel(edge, importance[edge.name])
        total = summed.sum()
        if np.isfinite(total) and total > 0:
            scaled = np.divide(summed, total, order="C")
        else:
            scaled = np.full(summed.shape, 1.0 / summed.size)
        result.append(ChannelEdge(edge, edge.in_channels, out_ids, scaled))
    return tuple(result)


def _by_channel(edge: WeightedEdge, importance: FloatArray) -> tuple[FloatArray, IntArray]:
    """Rows of the same output channel added up, and the channels; nothing is copied if none are."""
    out_ids, out_index = np.unique(edge.out_channels, return_inverse=True)
    if len(out_ids) == len(out_index):
        ascending = np.array_equal(out_ids, edge.out_channels)
        return (importance if ascending else importance[np.argsort(out_index)]), out_ids
    summed = np.zeros((len(out_ids), len(edge.in_channels)))
    np.add.at(summed, out_index, importance)
    return summed, out_ids


def channel_importance(graph: ChannelGraph, edges: tuple[ChannelEdge, ...]) -> FloatArray:
    """Importance of each channel: that of all connections it takes part in, shape [n_channels]."""
    total = np.zeros(graph.n_channels)
    for e in edges:
        np.add.at(total, e.in_ids, e.importance.sum(axis=0))
        np.add.at(total, e.out_ids, e.importance.sum(axis=1))
    return total
