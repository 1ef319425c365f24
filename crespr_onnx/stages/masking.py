"""Zeroes what a layout does not store, in a model of the original shape."""

import numpy as np
import onnx_ir as ir

from crespr_onnx.layout import ChannelGraph, Layout


def masked_copy(model: ir.Model, graph: ChannelGraph, layout: Layout) -> ir.Model:
    """A copy in which every weight between clusters, and of dropped channels, is zero."""
    copy = model.clone(deep_copy=True)
    mask_weights(copy, graph, layout)
    return copy


def mask_weights(model: ir.Model, graph: ChannelGraph, layout: Layout) -> None:
    """The same in place."""
    for edge in graph.edges:
        if edge.frozen is not None:
            continue
        value = model.graph.initializers[edge.weight]
        assert value.const_value is not None
        weight = value.const_value.numpy()
        mask = layout.edge_mask(graph, edge)
        oriented = mask if (edge.out_axis, edge.in_axis) == (0, 1) else mask.T
        shaped = oriented.reshape(oriented.shape + (1,) * (weight.ndim - 2))
        value.const_value = ir.Tensor(
            np.where(shaped, weight, 0).astype(weight.dtype), name=value.name
        )
