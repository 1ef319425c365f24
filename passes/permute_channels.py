"""Sorts channels so that every cluster is one block of neighbouring channels."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import InPlacePass, PassResult

from crespr_onnx.layout import ChannelGraph, IntArray, Layout
from crespr_onnx.passes.channel_order import reorder_graph, reorder_model


@dataclass(frozen=True, eq=False)
class PermuteChannels(InPlacePass):
    """Makes clusters contiguous on every axis; the permutation is folded into the constants.

    Attributes:
        graph: channels of the model.
        layout: their clusters; no channel may be dropped any more.
    """

    graph: ChannelGraph
    layout: Layout

    def call(self, model: ir.Model) -> PassResult:
        """Permutes in place; `modified` tells whether any axis was not in order."""
        return PassResult(model, reorder_model(model, self.graph, self._order))

    def graph_after(self) -> ChannelGraph:
        """Channels of the model that the pass leaves behind."""
        return reorder_graph(self.graph, self._order)

    def _order(self, channels: IntArray) -> IntArray:
        if self.layout.axis_clusters(self.graph, channels) == 1:
            return np.arange(len(channels))
        # By cluster, then by channel: earlier layers' channels come first, so that a shortcut that
        # adds channels of zeros adds them at the end of each cluster.
        return np.lexsort((channels, self.layout.labels[channels]))
