"""Sorts channels so that every cluster is one block of neighbouring channels."""

import numpy as np

from crespr_onnx.layout import IntArray
from crespr_onnx.passes.channel_order import ReorderChannels


class PermuteChannels(ReorderChannels):
    """Makes clusters contiguous on every axis; the permutation is folded into the constants.

    No channel may be dropped any more.
    """

    def order(self, channels: IntArray) -> IntArray:
        """See `ReorderChannels`."""
        if self.layout.axis_clusters(self.graph, channels) == 1:
            return np.arange(len(channels))
        # By cluster, then by channel: earlier layers' channels come first, so that a shortcut that
        # adds channels of zeros adds them at the end of each cluster.
        return np.lexsort((channels, self.layout.labels[channels]))
