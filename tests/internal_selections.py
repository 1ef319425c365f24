"""Selections for tests in which clusters read only their own kind."""

import numpy as np

from crespr_onnx.layout import BoolArray, ChannelGraph, Layout


def internal_selections(graph: ChannelGraph, layout: Layout) -> dict[str, BoolArray]:
    """Selections without bridges: clusters read those of the same label, where both sides have K.

    That is a block-diagonal weight, as of a grouped convolution.
    """
    result = {}
    for edge in graph.edges:
        k = layout.axis_clusters(graph, edge.out_channels)
        if edge.frozen is None and k == layout.axis_clusters(graph, edge.in_channels) > 1:
            result[edge.name] = layout.labels[edge.in_channels][:, None] == np.arange(k)
    return result
