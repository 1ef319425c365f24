"""Removes dropped channels from every tensor that carries them."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import InPlacePass, PassResult

from crespr_onnx.layout import ChannelGraph, IntArray, Layout
from crespr_onnx.passes.channel_order import reorder_graph, reorder_model


@dataclass(frozen=True, eq=False)
class DropChannels(InPlacePass):
    """Physically removes the channels that a layout labels DROPPED.

    What the model computes stays the same if every weight that reads a dropped channel is zero.

    Attributes:
        graph: channels of the model.
        layout: which of them are dropped.
    """

    graph: ChannelGraph
    layout: Layout

    def call(self, model: ir.Model) -> PassResult:
        """Drops in place; `modified` tells whether any channel was dropped."""
        return PassResult(model, reorder_model(model, self.graph, self._order))

    def graph_after(self) -> ChannelGraph:
        """Channels of the model that the pass leaves behind."""
        return reorder_graph(self.graph, self._order)

    def _order(self, channels: IntArray) -> IntArray:
        return np.flatnonzero(self.layout.kept(channels))
