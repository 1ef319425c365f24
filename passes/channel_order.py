"""Moves channels: takes a new order for every channel axis and carries it through a graph.

Dropping and permuting are both such orders. The order of an axis is a function of the channel ids
on it alone, so operators that keep channels to themselves need no change; constants are indexed,
and operators that move channels (Concat, Split, Slice, Pad, Gather, Reshape) are corrected so that
their output has the order it should have.
"""

from abc import abstractmethod
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import InPlacePass, PassResult

from crespr_onnx.layout import (
    ChannelAxis,
    ChannelGraph,
    ChannelGroup,
    ChannelMove,
    IntArray,
    Layout,
)
from crespr_onnx.passes.edit import Editor
from crespr_onnx.passes.node_order import NodeOrder, Order, moved_positions
from crespr_onnx.passes.surgery import set_constant


@dataclass(frozen=True, eq=False)
class ReorderChannels(InPlacePass):
    """A pass that gives every channel axis a new order, which a layout decides.

    Attributes:
        graph: channels of the model.
        layout: clusters and dropped channels.
    """

    graph: ChannelGraph
    layout: Layout

    @abstractmethod
    def order(self, channels: IntArray) -> IntArray:
        """The old positions of an axis that remain, in their new order."""

    def call(self, model: ir.Model) -> PassResult:
        """Reorders in place; `modified` tells whether anything changed."""
        return PassResult(model, reorder_model(model, self.graph, self.order))

    def graph_after(self) -> ChannelGraph:
        """Channels of the model that the pass leaves behind."""
        return reorder_graph(self.graph, self.order)

    def layout_after(self) -> Layout:
        """The layout of that model: selections go by positions, which are others now."""
        selections = {
            edge.name: self.layout.selections[edge.name][self.order(edge.in_channels)]
            for edge in self.graph.edges
            if edge.name in self.layout.selections
        }
        return replace(self.layout, selections=selections)


def reorder_graph(graph: ChannelGraph, order: Order) -> ChannelGraph:
    """The channel graph that `reorder_model` leaves behind; channel ids stay what they were."""

    def moved(axis: ChannelAxis) -> ChannelAxis:
        return ChannelAxis(axis.axis, axis.channels[order(axis.channels)])

    edges = tuple(
        replace(
            e,
            in_channels=e.in_channels[order(e.in_channels)],
            out_channels=e.out_channels[order(e.out_channels)],
        )
        for e in graph.edges
    )
    return replace(
        graph,
        groups=tuple(
            ChannelGroup(g.name, np.sort(g.channels[order(g.channels)]), g.frozen)
            for g in graph.groups
        ),
        edges=edges,
        values={name: moved(axis) for name, axis in graph.values.items()},
        constants={name: tuple(map(moved, axes)) for name, axes in graph.constants.items()},
        moves={
            name: ChannelMove(move.source, moved_positions(graph, name, order))
            for name, move in graph.moves.items()
        },
    )


def reorder_model(model: ir.Model, graph: ChannelGraph, order: Order) -> bool:
    """Applies a new order of channels to a model in place.

    An order that is more than a choice may route the output of a Concat or a Reshape under a new
    name; then the channels of the model must be found anew before it is reordered again.

    Args:
        model: the model that `graph` describes.
        graph: its channels.
        order: new order of an axis, see `Order`.

    Returns:
        Whether anything changed.
    """
    modified = _reorder_constants(model, graph, order)
    moving = {n for n, axis in graph.values.items() if not _stays(order(axis.channels), axis)}
    if not moving:
        return modified
    # By name: an earlier pass may have put several nodes between a move's source and its result.
    affected = moving | {name for name, move in graph.moves.items() if move.source in moving}
    work = NodeOrder(graph, order, Editor(model), _named_values(model))
    for node in list(model.graph):
        if affected.intersection(v.name or "" for v in (*node.inputs, *node.outputs) if v):
            work.correct(node)
    for name in moving:
        value, axis = work.values[name], graph.values[name]
        if value.shape is not None:
            dims = list(value.shape)
            dims[axis.axis] = len(order(axis.channels))
            value.shape = ir.Shape(dims)
    return True


def _stays(positions: IntArray, axis: ChannelAxis) -> bool:
    return np.array_equal(positions, np.arange(len(axis.channels)))


def _named_values(model: ir.Model) -> dict[str, ir.Value]:
    return {value.name: value for node in model.graph for value in node.outputs if value.name}


def _reorder_constants(model: ir.Model, graph: ChannelGraph, order: Order) -> bool:
    modified = False
    for name, axes in graph.constants.items():
        value = model.graph.initializers[name]
        for axis in axes:
            positions = order(axis.channels)
            if not _stays(positions, axis):
                assert value.const_value is not None
                set_constant(value, value.const_value.numpy().take(positions, axis=axis.axis))
                modified = True
    return modified
