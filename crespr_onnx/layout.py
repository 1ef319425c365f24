"""Channels, groups, weighted edges, and the cluster layout over them.

Pure data with no framework behind it: the channel analysis makes a `ChannelGraph`, clustering
makes a `Layout` for it, and restriction, accounting and the passes read both.

A *channel* has an integer id. A tensor axis that carries channels is the array of their ids, one
per position, so all ways in which axes hang together are plain array operations: a Flatten repeats
ids, a Concat joins arrays, a Slice takes a part, a residual Add makes ids equal.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

DROPPED = -1
"""Label of a channel that is removed."""

ZERO = -1
"""Position of a channel that is nothing but zeros."""


SELECTION = "crespr.selection"
"""Node metadata: a Gather that picks the channels that each cluster of one edge reads."""

DEPTHWISE = "crespr.depthwise"
"""Node metadata: a depthwise Conv of which one channel is left, so that its shape does not tell."""


@dataclass(frozen=True, eq=False)
class ChannelAxis:
    """The axis of a tensor (activation or initializer) that carries channels.

    Attributes:
        axis: index of the axis, not negative.
        channels: channel id per position, shape [length of the axis].
    """

    axis: int
    channels: IntArray


@dataclass(frozen=True, eq=False)
class ChannelGroup:
    """Channels that live on exactly the same axes and so can be reordered among themselves.

    Attributes:
        name: the first tensor, in topological order, that carries the group.
        channels: ids of its channels, ascending.
        frozen: why the order and number of these channels must stay, or None if they may change.
    """

    name: str
    channels: IntArray
    frozen: str | None


@dataclass(frozen=True, eq=False)
class WeightedEdge:
    """A Conv, ConvTranspose, Gemm or MatMul with constant weights.

    Attributes:
        name: name of the node.
        op: its operator.
        weight: name of the weight initializer.
        in_axis: axis of the weight that runs over input channels.
        out_axis: axis of the weight that runs over output channels.
        in_channels: channel id per input position, shape [n_in].
        out_channels: channel id per output position, shape [n_out].
        kernel: weights per connection of an input to an output position.
        positions: output positions per sample that share the weights (1 for a Gemm on a matrix).
        frozen: why the edge can be neither split nor shrunk, or None.
        macs: multiply-accumulates per sample, or None if they were not counted (`with_macs` does).
    """

    name: str
    op: str
    weight: str
    in_axis: int
    out_axis: int
    in_channels: IntArray
    out_channels: IntArray
    kernel: int
    positions: int
    frozen: str | None = None
    macs: int | None = None

    @property
    def weights(self) -> int:
        """Number of weights stored."""
        return len(self.in_channels) * len(self.out_channels) * self.kernel

    @property
    def is_convolution(self) -> bool:
        """Whether it is a Conv or a ConvTranspose, whose channels are axis 1 and not the last."""
        return self.op.startswith("Conv")


@dataclass(frozen=True, eq=False)
class ChannelMove:
    """A tensor that shows chosen channels of another (by Split, Slice, Pad or Gather).

    Attributes:
        source: name of the tensor that the channels come from.
        positions: per position of the result the position in the source, or ZERO.
    """

    source: str
    positions: IntArray


@dataclass(frozen=True, eq=False)
class ChannelGraph:
    """What the channel analysis found in one model.

    Attributes:
        groups: all channel groups; together they hold every channel id exactly once.
        edges: all weighted edges in topological order.
        values: activations by name, with the axis that carries their channels.
        constants: initializers by name, with one entry for each of their axes that carry channels.
        moves: activations by name that are made of another's channels.
        opaque_weights: weights of Conv, ConvTranspose, Gemm and MatMul nodes that are no edges,
            because the analysis could not follow them; they stay stored.
        depthwise: initializers that are the weights of depthwise convolutions.
        opaque_macs: multiply-accumulates per sample of the nodes behind `opaque_weights`, or None
            if they were not counted.
    """

    groups: tuple[ChannelGroup, ...]
    edges: tuple[WeightedEdge, ...]
    values: Mapping[str, ChannelAxis]
    constants: Mapping[str, tuple[ChannelAxis, ...]]
    moves: Mapping[str, ChannelMove]
    opaque_weights: int = 0
    depthwise: frozenset[str] = frozenset()
    opaque_macs: int | None = None

    @cached_property
    def n_channels(self) -> int:
        """One more than the highest channel id."""
        return 1 + max((int(g.channels.max()) for g in self.groups if len(g.channels)), default=-1)

    @cached_property
    def group_of(self) -> IntArray:
        """Index into `groups` by channel id (-1 for ids that are not in use)."""
        index = np.full(self.n_channels, -1, dtype=np.int64)
        for i, group in enumerate(self.groups):
            index[group.channels] = i
        return index

    @cached_property
    def weights(self) -> int:
        """Weights that the model stores; what several edges share is stored once."""
        return self.opaque_weights + sum({e.weight: e.weights for e in self.edges}.values())

    @cached_property
    def macs(self) -> int | None:
        """Multiply-accumulates per sample where weights are stored, or None if not all are known.

        Those of depthwise convolutions do not count, just as their weights do not.
        """
        counts = [self.opaque_macs, *(edge.macs for edge in self.edges)]
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None

    def groups_on(self, channels: IntArray) -> list[int]:
        """Indices of the groups that an axis carries."""
        return sorted(int(i) for i in np.unique(self.group_of[channels]))

    def is_frozen(self, channels: IntArray) -> bool:
        """Whether every channel of an axis belongs to a frozen group."""
        return all(self.groups[i].frozen is not None for i in self.groups_on(channels))


@dataclass(frozen=True, eq=False)
class Layout:
    """A cluster for each channel of a `ChannelGraph`.

    Attributes:
        labels: per channel id its cluster, 0 to K-1, or DROPPED; shape [n_channels].
        clusters: per group, in the order of `ChannelGraph.groups`, its cluster count K. A group
            with K = 1 is one block.
        selections: for edges, by name, whose clusters choose what they read: which input positions
            each cluster of the outputs reads, shape [n_in, K]. A channel may be read by several
            clusters, so that modules share inputs and have bridges between them; all clusters of
            one edge read equally many. What is not here is read whole.
    """

    labels: IntArray
    clusters: IntArray = field(repr=False)
    selections: Mapping[str, BoolArray] = field(default_factory=dict, repr=False)

    def kept(self, channels: IntArray) -> BoolArray:
        """Which positions of an axis survive."""
        return np.not_equal(self.labels[channels], DROPPED)

    def axis_clusters(self, graph: ChannelGraph, channels: IntArray) -> int:
        """Cluster count of an axis: the K on which all its groups agree, else 1."""
        counts = {int(self.clusters[i]) for i in graph.groups_on(channels)}
        return counts.pop() if len(counts) == 1 else 1

    def edge_clusters(self, graph: ChannelGraph, edge: WeightedEdge) -> int:
        """Into how many blocks an edge splits: the K of its outputs, if they select inputs."""
        if edge.name not in self.selections:
            return 1
        return self.axis_clusters(graph, edge.out_channels)

    def edge_mask(self, graph: ChannelGraph, edge: WeightedEdge) -> BoolArray:
        """Which connections of an edge are stored, shape [n_out, n_in]."""
        inputs, outputs = self.labels[edge.in_channels], self.labels[edge.out_channels]
        mask: BoolArray = (outputs != DROPPED)[:, None] & (inputs != DROPPED)[None, :]
        selection = self.selections.get(edge.name)
        if selection is not None:
            mask &= selection.T[np.maximum(outputs, 0)]
        return mask

    def stored_weights(self, graph: ChannelGraph, edge: WeightedEdge) -> int:
        """Weights that the edge stores once it is split and its dropped channels are gone."""
        return int(self.edge_mask(graph, edge).sum()) * edge.kernel

    def physical_ratio(self, graph: ChannelGraph) -> float:
        """1 - (weights stored under this layout) / (weights of the input model)."""
        stored = {edge.weight: self.stored_weights(graph, edge) for edge in graph.edges}
        return 1.0 - (graph.opaque_weights + sum(stored.values())) / graph.weights


def dense_layout(graph: ChannelGraph) -> Layout:
    """The layout that changes nothing: every channel kept, every group shared."""
    return Layout(
        labels=np.zeros(graph.n_channels, dtype=np.int64),
        clusters=np.ones(len(graph.groups), dtype=np.int64),
    )
