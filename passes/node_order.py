"""Corrects nodes for a new order of channels: Concat, Reshape, and those that move channels."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from crespr_onnx.layout import DEPTHWISE, ZERO, ChannelAxis, ChannelGraph, IntArray
from crespr_onnx.passes.edit import Editor
from crespr_onnx.passes.route import route
from crespr_onnx.passes.surgery import remove_dead, take_over

Order = Callable[[IntArray], IntArray]
"""Channel ids of an axis -> the old positions that remain, in their new order."""

_RESHAPING = ("Flatten", "Reshape")


def moved_positions(graph: ChannelGraph, name: str, order: Order) -> IntArray:
    """Positions of a move once both its source and its result have their new order."""
    move = graph.moves[name]
    source = order(graph.values[move.source].channels)
    place = np.full(len(graph.values[move.source].channels), ZERO, dtype=np.int64)
    place[source] = np.arange(len(source))
    old = move.positions[order(graph.values[name].channels)]
    return np.where(old == ZERO, ZERO, place[old])


@dataclass(frozen=True, eq=False)
class NodeOrder:
    """Corrects the nodes that move channels, one after the other in topological order.

    Attributes:
        graph: channels of the model.
        order: the new order of each axis.
        editor: makes new nodes.
        values: what stands for each activation now, by name.
    """

    graph: ChannelGraph
    order: Order
    editor: Editor
    values: dict[str, ir.Value]

    def correct(self, node: ir.Node) -> None:
        """Makes a node give its output in the new order, from inputs in the new order."""
        if node.op_type == "Conv":
            self._depthwise(node)
        elif any(output.name in self.graph.moves for output in node.outputs):
            for output in list(node.outputs):
                self._move(node, output)
            remove_dead(node.outputs)
        elif node.op_type == "Concat":
            self._concat(node)
        elif node.op_type in _RESHAPING:
            self._reshape(node)

    def _axis(self, value: ir.Value | None) -> ChannelAxis | None:
        return None if value is None else self.graph.values.get(value.name or "")

    def _depthwise(self, node: ir.Node) -> None:
        weight, axis = node.inputs[1], self._axis(node.outputs[0])
        groups = node.attributes.get_int("group", 1)
        if groups > 1 and axis and weight is not None and weight.name in self.graph.constants:
            n = len(self.order(axis.channels))
            node.attributes["group"] = ir.AttrInt64("group", n)
            if n == 1:
                node.metadata_props[DEPTHWISE] = "1"

    def _move(self, node: ir.Node, output: ir.Value) -> None:
        """Routes a result of Split, Slice, Pad or Gather from its source anew."""
        name, axis = output.name or "", self._axis(output)
        if axis is None or name not in self.graph.moves:
            return
        # By name: an earlier pass may have put several nodes between the two.
        source = self.graph.moves[name].source
        n = len(self.order(self.graph.values[source].channels))
        positions = moved_positions(self.graph, name, self.order)
        prefix = (node.name if len(node.outputs) == 1 else None) or name
        rank = len(output.shape or ())
        start = self.values[source]
        nodes = route(self.editor, start, rank, axis.axis, n, positions, prefix)
        nodes = nodes or [self.editor.node("Identity", [start], f"{prefix}/Identity")]
        self.editor.graph.insert_after(node, nodes)
        take_over(nodes[-1].outputs[0], output)
        self.values[name] = nodes[-1].outputs[0]

    def _reroute(
        self,
        node: ir.Node,
        value: ir.Value,
        axis: ChannelAxis,
        natural: IntArray,
        wanted: IntArray,
    ) -> ir.Value:
        """Brings a value, whose positions are `natural`, into the order `wanted` behind a node."""
        place = np.zeros(len(axis.channels), dtype=np.int64)
        place[natural] = np.arange(len(natural))
        rank, name = len(value.shape or ()), f"{node.name}/order"
        nodes = route(self.editor, value, rank, axis.axis, len(natural), place[wanted], name)
        if nodes:
            self.editor.graph.insert_after(node, nodes)
        return nodes[-1].outputs[0] if nodes else value

    def _correct_output(self, node: ir.Node, natural: IntArray) -> None:
        """Lets the readers of a node, whose output comes in the order `natural`, have theirs."""
        value, axis = node.outputs[0], self._axis(node.outputs[0])
        if axis is None:
            return
        uses = [(use.node, use.idx) for use in value.uses()]
        new = self._reroute(node, value, axis, natural, self.order(axis.channels))
        if new is value:
            return
        for reader, index in uses:
            reader.replace_input_with(index, new)
        name = value.name or ""
        value.name = self.editor.fresh(f"{name}/natural")
        new.name, new.shape, new.type = name, value.shape, value.type
        self.values[name] = new

    def _concat(self, node: ir.Node) -> None:
        out = self._axis(node.outputs[0])
        inputs = [axis for value in node.inputs if (axis := self._axis(value)) is not None]
        # On another axis than that of the channels, all inputs have the same order.
        if out is None or node.attributes["axis"].as_int() % self._rank(node) != out.axis:
            return
        offsets = np.cumsum([0, *(len(axis.channels) for axis in inputs)])
        parts = [o + self.order(a.channels) for o, a in zip(offsets, inputs, strict=False)]
        self._correct_output(node, np.concatenate(parts))

    def _rank(self, node: ir.Node) -> int:
        return len(node.outputs[0].shape or ())

    def _reshape(self, node: ir.Node) -> None:
        data = node.inputs[0]
        before, after = self._axis(data), self._axis(node.outputs[0])
        if data is None or before is None or after is None:
            return
        shapes = _sample_dims(data), _sample_dims(node.outputs[0])
        read = self.order(before.channels)
        natural = _through_reshape(read, before.axis, after.axis, *shapes)
        if natural is None:
            # The new axis repeats the order of the model: restore it first.
            kept = np.sort(read)
            producer = data.producer()
            assert producer is not None
            restored = self._reroute(producer, data, before, read, kept)
            node.replace_input_with(0, restored)
            natural = _through_reshape(kept, before.axis, after.axis, *shapes)
            assert natural is not None
        if node.op_type == "Reshape":
            self._retarget(node, after.axis, len(natural))
        self._correct_output(node, natural)

    def _retarget(self, node: ir.Node, axis: int, length: int) -> None:
        """Writes the new number of channels into the target shape of a Reshape."""
        shape = node.inputs[1]
        assert shape is not None
        assert shape.const_value is not None
        target = shape.const_value.numpy().copy()
        if target[axis] > 0 and target[axis] != length:
            target[axis] = length
            self.editor.set_input(node, 1, f"{node.name}/shape", target)


def _through_reshape(
    read: IntArray, old_axis: int, new_axis: int, old_dims: list[int], new_dims: list[int]
) -> IntArray | None:
    """In what order the positions of the new axis come, if the old one's are read in an order.

    Returns:
        Old positions of the new axis, or None if the new order is none of that axis alone.
    """
    # Where each element of a sample was in the old result, read in the new shape.
    every = np.arange(int(np.prod(old_dims)))
    was = every.reshape(old_dims).take(read, axis=old_axis - 1)
    shape = list(new_dims)
    shape[new_axis - 1] = -1
    was = was.reshape(shape)
    first = np.moveaxis(was, new_axis - 1, 0).reshape(was.shape[new_axis - 1], -1)[:, 0]
    natural = np.unravel_index(first, new_dims)[new_axis - 1]
    same = np.array_equal(every.reshape(new_dims).take(natural, axis=new_axis - 1), was)
    return natural if same else None


def _sample_dims(value: ir.Value) -> list[int]:
    assert value.shape is not None
    return [d for d in list(value.shape)[1:] if isinstance(d, int)]
