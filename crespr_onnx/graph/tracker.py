"""The state of a channel analysis: which channel each position of each tensor axis carries.

Ids that turn out to be the same channel are merged with a union-find, so a rule for an operator
never has to look ahead.
"""

from collections import defaultdict
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir

from crespr_onnx.graph.grouping import group_channels
from crespr_onnx.graph.union_find import UnionFind
from crespr_onnx.layout import (
    ZERO,
    ChannelAxis,
    ChannelGraph,
    ChannelMove,
    IntArray,
    WeightedEdge,
)


class NotUnderstoodError(Exception):
    """Raised by a rule for a use of an operator that it does not cover; the text says which."""


class ChannelTracker:
    """Collects channels while the rules walk a graph in topological order."""

    def __init__(self) -> None:
        self._ids = UnionFind()
        self._values: dict[str, ChannelAxis] = {}
        self._constants: dict[str, dict[int, IntArray]] = defaultdict(dict)
        self._readers: dict[str, list[_Reader]] = defaultdict(list)
        self._edges: list[WeightedEdge] = []
        self._moves: dict[str, ChannelMove] = {}
        self._depthwise: set[str] = set()

    def enter(self, node: ir.Node) -> None:
        """Tells which node's rule comes next."""
        for name in {v.name for v in node.inputs if v is not None and v.is_initializer()}:
            if name is not None:
                self._readers[name].append(_Reader(node))

    # ---- ids

    def fresh(self, n: int, frozen: str | None = None) -> IntArray:
        """`n` new channels; `frozen` says why they must stay as they are, if they must."""
        channels = self._ids.fresh(n)
        if frozen is not None:
            self.freeze(channels, frozen)
        return channels

    def unite(self, a: IntArray, b: IntArray) -> None:
        """Makes two axes of equal length carry the same channels, position by position."""
        self._ids.unite(a, b)

    def freeze(self, channels: IntArray, reason: str) -> None:
        """Channels that must keep their order and number; the first reason given stands."""
        self._ids.mark(channels, reason)

    # ---- tensors

    def axis_of(self, value: ir.Value | None) -> ChannelAxis | None:
        """The channel axis of an activation, or None where none is known."""
        return None if value is None or value.name is None else self._values.get(value.name)

    def set_axis(self, value: ir.Value, axis: int, channels: IntArray) -> None:
        """Records the channel axis of an activation."""
        if value.name:
            self._values[value.name] = ChannelAxis(axis, channels)

    def move(self, source: ir.Value, output: ir.Value, positions: IntArray) -> None:
        """Records that an activation shows chosen channels of another; ZERO stands for a new one.

        New channels are ids of their own: a residual Add then makes them those of its other side.
        """
        axis = self.axis_of(source)
        if axis is None or not source.name or not output.name:
            return
        channels = axis.channels[positions]
        channels[positions == ZERO] = self.fresh(int((positions == ZERO).sum()))
        self.set_axis(output, axis.axis, channels)
        self._moves[output.name] = ChannelMove(source.name, positions)

    def bind_constant(self, value: ir.Value, axis: int, channels: IntArray) -> None:
        """Ties an axis of an initializer to channels; an initializer used twice ties both uses."""
        assert value.name is not None
        bound = self._constants[value.name]
        if axis in bound:
            self.unite(bound[axis], channels)
        else:
            bound[axis] = channels
        self._readers[value.name][-1].axes.add(axis)

    def add_depthwise(self, weight: ir.Value) -> None:
        """Records the weight of a depthwise convolution, whose channels are bound already."""
        self._depthwise.add(weight.name or "")

    def add_edge(self, edge: WeightedEdge) -> None:
        """Records a weighted edge."""
        self._edges.append(edge)

    # ---- result

    def build(self) -> ChannelGraph:
        """The finished graph, with channels renumbered from 0 in topological order."""
        self._freeze_ambiguous()
        bound = [channels for axes in self._constants.values() for channels in axes.values()]
        sides = [side for e in self._edges for side in (e.in_channels, e.out_channels)]
        arrays = [*(a.channels for a in self._values.values()), *bound, *sides]
        roots = self._ids.find(np.concatenate([np.empty(0, dtype=np.int64), *arrays]))
        in_order = roots[np.sort(np.unique(roots, return_index=True)[1])]
        number = np.zeros(len(self._ids), dtype=np.int64)
        number[in_order] = np.arange(len(in_order))

        def renumber(channels: IntArray) -> IntArray:
            return number[self._ids.find(channels)]

        values = {n: ChannelAxis(a.axis, renumber(a.channels)) for n, a in self._values.items()}
        constants = {
            n: tuple(ChannelAxis(axis, renumber(ch)) for axis, ch in sorted(axes.items()))
            for n, axes in self._constants.items()
        }
        edges = tuple(
            replace(e, in_channels=renumber(e.in_channels), out_channels=renumber(e.out_channels))
            for e in self._edges
        )
        axes = [(n, a.channels) for n, a in values.items()]
        axes += [(n, a.channels) for n, bound_axes in constants.items() for a in bound_axes]
        groups = group_channels(axes, self._ids.reasons(in_order))
        moves, depthwise = dict(self._moves), frozenset(self._depthwise)
        return ChannelGraph(groups, edges, values, constants, moves, depthwise=depthwise)

    def _freeze_ambiguous(self) -> None:
        """Initializers that their readers do not all read alike must stay what they are."""
        for name, axes in self._constants.items():
            for reader in self._readers[name]:
                if reader.axes != axes.keys():
                    title = f"{reader.node.op_type} '{reader.node.name}'"
                    for channels in axes.values():
                        self.freeze(channels, f"{title} reads '{name}' in a way of its own")
        forms: dict[str, tuple[str, int]] = {}
        for edge in self._edges:
            form = forms.setdefault(edge.weight, (edge.op, edge.in_axis))
            if form != (edge.op, edge.in_axis):
                reason = f"{edge.op} '{edge.name}' reads '{edge.weight}' in a way of its own"
                self.freeze(edge.in_channels, reason)
                self.freeze(edge.out_channels, reason)


@dataclass(frozen=True, eq=False)
class _Reader:
    """A node that reads an initializer, and the axes of it that its rule bound."""

    node: ir.Node
    axes: set[int] = field(default_factory=set)
