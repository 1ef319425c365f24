"""Moves channels: takes a new order for every channel axis and carries it through a graph.

Dropping and permuting are both such orders. The order of an axis is a function of the channel ids
on it alone, so operators that keep channels to themselves need no change; constants are indexed,
and operators that move channels (Concat, Split, Slice, Pad, Gather, Reshape) are corrected so that
their output has the order it should have.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from crespr_onnx.layout import ZERO, ChannelAxis, ChannelGraph, ChannelGroup, ChannelMove, IntArray
from crespr_onnx.passes.edit import new_constant
from crespr_onnx.passes.route import route
from crespr_onnx.passes.surgery import remove_dead, set_constant, take_over

Order = Callable[[IntArray], IntArray]
"""Channel ids of an axis -> the old positions that remain, in their new order."""

_RESHAPING = ("Flatten", "Reshape", "Squeeze", "Unsqueeze")


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
    groups = tuple(
        ChannelGroup(g.name, np.sort(g.channels[order(g.channels)]), g.frozen) for g in graph.groups
    )
    return ChannelGraph(
        groups=groups,
        edges=edges,
        values={name: moved(axis) for name, axis in graph.values.items()},
        constants={name: tuple(map(moved, axes)) for name, axes in graph.constants.items()},
        moves={
            name: ChannelMove(move.source, _moved_positions(graph, name, order))
            for name, move in graph.moves.items()
        },
    )


def reorder_model(model: ir.Model, graph: ChannelGraph, order: Order) -> bool:
    """Applies a new order of channels to a model in place.

    Args:
        model: the model that `graph` describes.
        graph: its channels.
        order: new order of an axis, see `Order`.

    Returns:
        Whether anything changed.
    """
    modified = _reorder_constants(model, graph, order)
    moving = {n for n, axis in graph.values.items() if not _stays(order(axis.channels), axis)}
    for node in list(model.graph):
        if not moving.intersection(v.name for v in (*node.inputs, *node.outputs) if v is not None):
            continue
        if node.op_type == "Conv":
            _depthwise(node, graph, order)
        elif node.op_type == "Concat":
            _concat(model.graph, node, graph, order)
        elif node.op_type in _RESHAPING:
            _reshape(model.graph, node, graph, order)
        else:
            for output in list(node.outputs):
                _move(model.graph, node, output, graph, order)
            remove_dead(node.outputs)
    for node in model.graph:
        for value in node.outputs:
            if value.name in moving and value.shape is not None:
                axis = graph.values[value.name]
                dims = list(value.shape)
                dims[axis.axis] = len(order(axis.channels))
                value.shape = ir.Shape(dims)
    return modified or bool(moving)


def _stays(positions: IntArray, axis: ChannelAxis) -> bool:
    return np.array_equal(positions, np.arange(len(axis.channels)))


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


def _moved_positions(graph: ChannelGraph, name: str, order: Order) -> IntArray:
    """Positions of a move once both its source and its result have their new order."""
    move = graph.moves[name]
    source = order(graph.values[move.source].channels)
    place = np.full(len(graph.values[move.source].channels), ZERO, dtype=np.int64)
    place[source] = np.arange(len(source))
    old = move.positions[order(graph.values[name].channels)]
    return np.where(old == ZERO, ZERO, place[old])


def _depthwise(node: ir.Node, graph: ChannelGraph, order: Order) -> None:
    weight, axis = node.inputs[1], graph.values.get(node.outputs[0].name or "")
    groups = node.attributes["group"].as_int() if "group" in node.attributes else 1
    if groups > 1 and axis is not None and weight is not None and weight.name in graph.constants:
        node.attributes["group"] = ir.AttrInt64("group", len(order(axis.channels)))


def _move(
    ir_graph: ir.Graph, node: ir.Node, output: ir.Value, graph: ChannelGraph, order: Order
) -> None:
    """Lets the result of a Split, Slice, Pad or Gather be routed from its source anew."""
    if output.name not in graph.moves:
        return
    source, axis = node.inputs[0], graph.values[output.name]
    assert source is not None
    n = len(order(graph.values[graph.moves[output.name].source].channels))
    rank = len(output.shape or ())
    positions = _moved_positions(graph, output.name, order)
    nodes = route(ir_graph, source, rank, axis.axis, n, positions, node.name or output.name)
    ir_graph.insert_after(node, nodes)
    if nodes:
        take_over(nodes[-1].outputs[0], output)
    else:
        ir.convenience.replace_all_uses_with(output, source)


def _reroute(
    ir_graph: ir.Graph, node: ir.Node, axis: ChannelAxis, natural: IntArray, wanted: IntArray
) -> None:
    """Brings a node's output, whose positions are `natural`, into the order `wanted`."""
    value = node.outputs[0]
    place = np.zeros(len(axis.channels), dtype=np.int64)
    place[natural] = np.arange(len(natural))
    name = f"{node.name}/order"
    rank = len(value.shape or ())
    nodes = route(ir_graph, value, rank, axis.axis, len(natural), place[wanted], name)
    if nodes:
        readers = [(use.node, use.idx) for use in value.uses() if use.node not in nodes]
        ir_graph.insert_after(node, nodes)
        new = nodes[-1].outputs[0]
        for reader, index in readers:
            reader.replace_input_with(index, new)
        new.name, value.name = value.name, f"{value.name}/natural"
        new.shape, new.type = value.shape, value.type


def _concat(ir_graph: ir.Graph, node: ir.Node, graph: ChannelGraph, order: Order) -> None:
    out = graph.values.get(node.outputs[0].name or "")
    inputs = [graph.values.get(v.name or "") for v in node.inputs if v is not None]
    if out is None or sum(len(a.channels) for a in inputs if a is not None) != len(out.channels):
        return
    offset, natural = 0, []
    for axis in inputs:
        assert axis is not None
        natural.append(offset + order(axis.channels))
        offset += len(axis.channels)
    _reroute(ir_graph, node, out, np.concatenate(natural), order(out.channels))


def _reshape(ir_graph: ir.Graph, node: ir.Node, graph: ChannelGraph, order: Order) -> None:
    data = node.inputs[0]
    assert data is not None
    before, after = graph.values.get(data.name or ""), graph.values.get(node.outputs[0].name or "")
    if before is None or after is None:
        return
    wanted = order(after.channels)
    # Where each element of a sample was before, read in the new shape.
    old_dims, out_dims = (_sample_dims(v) for v in (data, node.outputs[0]))
    was = np.arange(int(np.prod(old_dims))).reshape(old_dims)
    was = was.take(order(before.channels), axis=before.axis - 1)
    new_dims = list(out_dims)
    new_dims[after.axis - 1] = len(wanted)
    along = np.unravel_index(was.reshape(new_dims), out_dims)[after.axis - 1]
    natural = np.moveaxis(along, after.axis - 1, 0).reshape(len(wanted), -1)[:, 0]
    if node.op_type == "Reshape":
        _retarget(ir_graph, node, after.axis, len(wanted))
    _reroute(ir_graph, node, after, natural, wanted)


def _sample_dims(value: ir.Value) -> list[int]:
    assert value.shape is not None
    return [d for d in list(value.shape)[1:] if isinstance(d, int)]


def _retarget(ir_graph: ir.Graph, node: ir.Node, axis: int, length: int) -> None:
    """Writes the new number of channels into the target shape of a Reshape."""
    shape = node.inputs[1]
    assert shape is not None
    assert shape.const_value is not None
    target = shape.const_value.numpy().copy()
    if target[axis] > 0:
        target[axis] = length
        node.replace_input_with(1, new_constant(ir_graph, f"{node.name}/shape", target))
