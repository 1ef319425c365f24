"""Removes dropped channels from every tensor that carries them."""

import numpy as np

from crespr_onnx.layout import IntArray
from crespr_onnx.passes.channel_order import ReorderChannels


class DropChannels(ReorderChannels):
    """Physically removes the channels that a layout labels DROPPED.

    What the model computes stays the same if every weight that reads a dropped channel is zero.
    """

    def order(self, channels: IntArray) -> IntArray:
        """See `ReorderChannels`."""
        return np.flatnonzero(self.layout.kept(channels))
