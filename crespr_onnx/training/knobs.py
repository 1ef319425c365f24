"""What allocation can turn: how wide each channel group is, how much each edge's clusters read.

The vector of all *knobs* holds first the channels kept per group, in the order of the groups, then
per edge that can select its inputs how many of them each cluster reads.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from crespr_onnx.layout import ChannelGraph, IntArray, WeightedEdge

FEWEST_INPUTS = 4
"""Edges with fewer inputs read all of them: there is nothing to choose."""
_TINY = 1e-12
_Repeats = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Reading:
    """How much clusters may be left to read.

    Attributes:
        price: how dear it is to read few inputs: a high price gives fewer channels, each of which
            sees more.
        by_convolutions: whether clusters of convolutions choose what they read, or read all that
            is kept, which spares their inputs a reordering.
    """

    price: float = 1.0
    by_convolutions: bool = True


def selecting_edges(graph: ChannelGraph) -> tuple[WeightedEdge, ...]:
    """Edges whose clusters may choose what they read.

    An initializer that several edges share is stored once, so that it cannot follow the choices of
    each of them.
    """
    uses = Counter(edge.weight for edge in graph.edges)
    return tuple(
        edge
        for edge in graph.edges
        if edge.frozen is None and uses[edge.weight] == 1 and len(edge.in_channels) >= FEWEST_INPUTS
    )


@dataclass(frozen=True)
class _Cost:
    """What the weights of one initializer cost, by the knobs.

    Attributes:
        inputs: groups, with input positions per channel that they keep.
        outputs: the same of the outputs.
        kernel: weights per connection.
        knob: that of what its clusters read, or None if they read everything.
        uses: multiply-accumulates per sample that each weight takes part in; 0 if not counted.
    """

    inputs: _Repeats
    outputs: _Repeats
    kernel: int
    knob: int | None
    uses: float

    def weights(self, values: Sequence[int]) -> float:
        n_in = _width(self.inputs, values)
        if self.knob is not None:
            n_in = min(n_in, values[self.knob])
        return n_in * _width(self.outputs, values) * self.kernel


class Knobs:
    """Sizes, costs and prices of all knobs of a model.

    Args:
        graph: channels of the model.
        reading: how much clusters may be left to read.

    Attributes:
        graph: channels of the model.
        selecting: the edges that can select, in the order of their knobs.
        sizes: what the knobs are in the dense model, shape [knobs].
        free: which of them may be turned, shape [knobs].
    """

    def __init__(self, graph: ChannelGraph, reading: Reading = Reading()) -> None:
        self.graph = graph
        self._read_price = reading.price
        self.selecting = tuple(
            edge
            for edge in selecting_edges(graph)
            if reading.by_convolutions or not edge.is_convolution
        )
        groups = [len(group.channels) for group in graph.groups]
        fan_ins = [len(edge.in_channels) for edge in self.selecting]
        self.sizes: IntArray = np.array([*groups, *fan_ins], dtype=np.int64)
        frozen = [group.frozen is not None for group in graph.groups]
        self.free = ~np.array(frozen + [False] * len(fan_ins), dtype=np.bool_)
        self._fixed_weights = graph.opaque_weights
        self._fixed_macs = float(graph.opaque_macs or 0)
        self._costs: list[_Cost] = []
        self._of_knob: list[list[int]] = [[] for _ in self.sizes]
        knob_of = {edge.name: len(groups) + i for i, edge in enumerate(self.selecting)}
        # Edges that share an initializer store it once, but each of them works with it.
        macs: Counter[str] = Counter()
        for edge in graph.edges:
            macs[edge.weight] += edge.macs or 0
        for edge in {edge.weight: edge for edge in graph.edges}.values():
            if edge.frozen is not None:
                self._fixed_weights += edge.weights
                self._fixed_macs += macs[edge.weight]
                continue
            inputs, outputs = (_repeats(graph, c) for c in (edge.in_channels, edge.out_channels))
            knob = knob_of.get(edge.name)
            turned_by = {g for g, _ in (*inputs, *outputs)} | (
                {knob} if knob is not None else set()
            )
            for k in turned_by:
                self._of_knob[k].append(len(self._costs))
            uses = macs[edge.weight] / max(edge.weights, 1)
            self._costs.append(_Cost(inputs, outputs, edge.kernel, knob, uses))

    @cached_property
    def beside(self) -> list[list[int]]:
        """For each knob those, itself among them, that turn the cost of an edge that it turns."""
        return [
            [k for k, other in enumerate(self._of_knob) if not set(own).isdisjoint(other)]
            for own in self._of_knob
        ]

    @cached_property
    def least(self) -> IntArray:
        """The lowest that the knobs can be turned, shape [knobs]."""
        return np.where(self.free, 1, self.sizes)

    def total(self, values: IntArray) -> int:
        """Weights stored in all edges."""
        turned: list[int] = values.tolist()
        return round(self._fixed_weights + sum(cost.weights(turned) for cost in self._costs))

    def macs(self, values: IntArray) -> int:
        """Multiply-accumulates per sample in all edges; 0 if the graph has not counted them."""
        turned: list[int] = values.tolist()
        work = sum(cost.weights(turned) * cost.uses for cost in self._costs)
        return round(self._fixed_macs + work)

    def saved(self, values: IntArray, knob: int, step: int) -> tuple[float, float]:
        """What is saved when one knob is lowered by a step (negative where it is raised).

        Returns:
            Weights, and multiply-accumulates per sample.
        """
        # A list, since NumPy's numbers are slow one by one.
        turned: list[int] = values.tolist()
        costs = [self._costs[i] for i in self._of_knob[knob]]
        before = [cost.weights(turned) for cost in costs]
        turned[knob] -= step
        weights = macs = 0.0
        for cost, was in zip(costs, before, strict=True):
            less = was - cost.weights(turned)
            weights += less
            macs += less * cost.uses
        return weights, macs

    def readable(self, edge: WeightedEdge, values: IntArray) -> int:
        """Input positions of an edge that are left to read."""
        return round(_width(_repeats(self.graph, edge.in_channels), values.tolist()))

    def rise(self, values: IntArray, knob: int, step: int) -> float:
        """How much the price of a knob rises when it is lowered by a step."""
        now = float(values[knob])
        return float(self._scale[knob] * (1.0 / max(now - step, _TINY) - 1.0 / now))

    @cached_property
    def _scale(self) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        edges = np.full(len(self.sizes), self._read_price)
        edges[: len(self.graph.groups)] = 0.0
        for edge in self.graph.edges:
            if edge.frozen is None:
                for side in (edge.in_channels, edge.out_channels):
                    edges[self.graph.groups_on(side)] += 1
        return edges * np.sqrt(self.sizes)


def _width(repeats: _Repeats, values: Sequence[int]) -> float:
    width = 0.0
    for group, repeat in repeats:
        width += values[group] * repeat
    return width


def _repeats(graph: ChannelGraph, channels: IntArray) -> _Repeats:
    """The groups of an axis, with positions on it per channel of the group."""
    groups, counts = np.unique(graph.group_of[channels], return_counts=True)
    return tuple(
        (int(g), n / len(graph.groups[int(g)].channels))
        for g, n in zip(groups, counts.tolist(), strict=True)
    )
