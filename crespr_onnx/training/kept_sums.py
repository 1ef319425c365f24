"""The sums of importance that a search for labels reads, each computed only when it has changed.

All that labels and selections are judged by are two products per edge: what each input gives to
each cluster of the outputs, and what each output would get in each cluster. On large models they
are the whole cost of the search, so none is computed twice for the same layout.
"""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_array

from crespr_onnx.layout import DROPPED, BoolArray, Layout
from crespr_onnx.training.channel_edges import ChannelEdge, FloatArray


def given(e: ChannelEdge, layout: Layout) -> FloatArray:
    """What each input gives to each cluster of kept outputs, read or not: shape [n_in, K].

    K is 1 for an edge without a selection.
    """
    selection = layout.selections.get(e.edge.name)
    labels = layout.labels[e.out_ids]
    if selection is None:
        labels = np.where(labels == DROPPED, DROPPED, 0)
    clusters = 1 if selection is None else selection.shape[1]
    # One pass over the rows that stay, without a copy of them.
    rows = np.argsort(labels, kind="stable")[np.count_nonzero(labels == DROPPED) :]
    ends = np.cumsum([0, *(np.count_nonzero(labels == k) for k in range(clusters))])
    members = csr_array((np.ones(len(rows)), rows, ends), shape=(clusters, len(labels)))
    summed: FloatArray = members @ e.importance
    return summed.T


def received(e: ChannelEdge, layout: Layout) -> FloatArray:
    """What each output would get in each cluster, of the inputs that it reads: [n_out, K]."""
    read: FloatArray = _read(e, layout).astype(np.float64)
    gained: FloatArray = e.importance @ read
    return gained


def kept(e: ChannelEdge, layout: Layout) -> float:
    """Importance of an edge that is kept, of 1 in all."""
    return _kept(e, layout, given(e, layout))


def _kept(e: ChannelEdge, layout: Layout, gifts: FloatArray) -> float:
    return float(np.sum(gifts, where=_read(e, layout)))


def _read(e: ChannelEdge, layout: Layout) -> BoolArray:
    """Which inputs are there and read, shape [n_in, K]."""
    there = layout.kept(e.in_ids)[:, None]
    selection = layout.selections.get(e.edge.name)
    return there if selection is None else selection & there


class KeptSums:
    """The two products of every edge for a layout that changes step by step.

    Args:
        layout: the layout to start from. Set `layout` to each that follows, then say which products
            it leaves wrong.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._given: dict[str, FloatArray] = {}
        self._received: dict[str, FloatArray] = {}

    def given(self, e: ChannelEdge) -> FloatArray:
        """See `given`; of the layout as it is."""
        if e.edge.name not in self._given:
            self._given[e.edge.name] = given(e, self.layout)
        return self._given[e.edge.name]

    def received(self, e: ChannelEdge) -> FloatArray:
        """See `received`; of the layout as it is."""
        if e.edge.name not in self._received:
            self._received[e.edge.name] = received(e, self.layout)
        return self._received[e.edge.name]

    def kept(self, edges: Sequence[ChannelEdge]) -> float:
        """Importance that is kept, summed over edges."""
        return sum(_kept(e, self.layout, self.given(e)) for e in edges)

    def outputs_changed(self, e: ChannelEdge) -> None:
        """The labels of an edge's outputs are no longer what they were."""
        self._given.pop(e.edge.name, None)

    def reading_changed(self, e: ChannelEdge) -> None:
        """What an edge reads is no longer what it was."""
        self._received.pop(e.edge.name, None)
