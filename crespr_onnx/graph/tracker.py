"""The state of a channel analysis: which channel each position of each tensor axis carries.

Ids that turn out to be the same channel are merged with a union-find, so a rule for an operator
never has to look ahead.
"""

from collections import defaultdict

import numpy as np
import onnx_ir as ir

from crespr_onnx.layout import (
    ZERO,
    ChannelAxis,
    ChannelGraph,
    ChannelGroup,
    ChannelMove,
    IntArray,
    WeightedEdge,
)


class NotUnderstoodError(Exception):
    """Raised by a rule for a use of an operator that it does not cover; the text says which."""


class ChannelTracker:
    """Collects channels while the rules walk a graph in topological order."""

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._frozen: dict[int, str] = {}
        self._values: dict[str, ChannelAxis] = {}
        self._constants: dict[str, dict[int, IntArray]] = defaultdict(dict)
        self._edges: list[WeightedEdge] = []
        self._moves: dict[str, ChannelMove] = {}

    # ---- ids

    def fresh(self, n: int, frozen: str | None = None) -> IntArray:
        """`n` new channels; `frozen` says why they must stay as they are, if they must."""
        start = len(self._parent)
        self._parent.extend(range(start, start + n))
        channels = np.arange(start, start + n, dtype=np.int64)
        if frozen is not None:
            self.freeze(channels, frozen)
        return channels

    def find(self, channel: int) -> int:
        """The id that stands for a channel: the first one that was merged into it."""
        root = channel
        while self._parent[root] != root:
            root = self._parent[root]
        while self._parent[channel] != root:
            self._parent[channel], channel = root, self._parent[channel]
        return root

    def resolve(self, channels: IntArray) -> IntArray:
        """`find` for a whole axis."""
        return np.fromiter((self.find(int(c)) for c in channels), np.int64, len(channels))

    def unite(self, a: IntArray, b: IntArray) -> IntArray:
        """Makes two axes of equal length carry the same channels, position by position."""
        for x, y in zip(a, b, strict=True):
            first, second = sorted((self.find(int(x)), self.find(int(y))))
            if first != second:
                self._parent[second] = first
                reason = self._frozen.pop(second, None)
                if reason is not None:
                    self._frozen.setdefault(first, reason)
        return a

    def freeze(self, channels: IntArray, reason: str) -> None:
        """Channels that must keep their order and number; the first reason given stands."""
        for channel in np.unique(channels):
            self._frozen.setdefault(self.find(int(channel)), reason)

    # ---- tensors

    def axis_of(self, value: ir.Value | None) -> ChannelAxis | None:
        """The channel axis of an activation, or None where none is known."""
        return None if value is None or value.name is None else self._values.get(value.name)

    def set_axis(self, value: ir.Value, axis: int, channels: IntArray) -> None:
        """Records the channel axis of an activation."""
        if value.name is not None:
            self._values[value.name] = ChannelAxis(axis, channels)

    def move(self, source: ir.Value, output: ir.Value, positions: IntArray) -> None:
        """Records that an activation shows chosen channels of another; ZERO stands for a new one.

        New channels are ids of their own: a residual Add then makes them those of its other side.
        """
        axis = self.axis_of(source)
        assert axis is not None
        assert source.name is not None
        assert output.name is not None
        channels = axis.channels[positions]
        channels[positions == ZERO] = self.fresh(int((positions == ZERO).sum()))
        self.set_axis(output, axis.axis, channels)
        self._moves[output.name] = ChannelMove(source.name, positions)

    def bind_constant(self, value: ir.Value, axis: int, channels: IntArray) -> None:
        """Ties an axis of an initializer to channels; an initializer used twice ties both uses."""
        assert value.name is not None
        bound = self._constants[value.name]
        bound[axis] = self.unite(bound[axis], channels) if axis in bound else channels

    def add_edge(self, edge: WeightedEdge) -> None:
        """Records a weighted edge."""
        self._edges.append(edge)

    # ---- result

    def build(self) -> ChannelGraph:
        """The finished graph, with channels renumbered from 0 in topological order."""
        number: dict[int, int] = {}

        def renumber(channels: IntArray) -> IntArray:
            roots = self.resolve(channels)
            return np.fromiter(
                (number.setdefault(int(r), len(number)) for r in roots), np.int64, len(roots)
            )

        values = {n: ChannelAxis(a.axis, renumber(a.channels)) for n, a in self._values.items()}
        constants = {
            n: tuple(ChannelAxis(axis, renumber(ch)) for axis, ch in sorted(bound.items()))
            for n, bound in self._constants.items()
        }
        edges = tuple(
            WeightedEdge(
                name=e.name,
                op=e.op,
                weight=e.weight,
                in_axis=e.in_axis,
                out_axis=e.out_axis,
                in_channels=renumber(e.in_channels),
                out_channels=renumber(e.out_channels),
                kernel=e.kernel,
                positions=e.positions,
                frozen=e.frozen,
            )
            for e in self._edges
        )
        frozen = {number[r]: reason for r, reason in self._frozen.items() if r in number}
        groups = _group(values, constants, frozen, len(number))
        return ChannelGraph(groups, edges, values, constants, dict(self._moves))


def _group(
    values: dict[str, ChannelAxis],
    constants: dict[str, tuple[ChannelAxis, ...]],
    frozen: dict[int, str],
    n_channels: int,
) -> tuple[ChannelGroup, ...]:
    """Puts channels that live on exactly the same axes into one group."""
    axes = list(values.items())
    axes += [(name, axis) for name, bound in constants.items() for axis in bound]
    lives_on: list[list[int]] = [[] for _ in range(n_channels)]
    for i, (_, axis) in enumerate(axes):
        for channel in np.unique(axis.channels):
            lives_on[channel].append(i)
    members: dict[tuple[tuple[int, ...], str | None], list[int]] = defaultdict(list)
    for channel, on in enumerate(lives_on):
        members[tuple(on), frozen.get(channel)].append(channel)
    names: dict[str, int] = defaultdict(int)
    groups = []
    for (on, reason), channels in members.items():
        name = axes[on[0]][0] if on else "unused"
        names[name] += 1
        if names[name] > 1:
            name = f"{name}#{names[name]}"
        groups.append(ChannelGroup(name, np.array(channels, dtype=np.int64), reason))
    return tuple(groups)
