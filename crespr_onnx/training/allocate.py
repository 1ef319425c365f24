"""How many channels each group keeps, for a given number of clusters, under the weight budget.

Both fewer channels and more clusters shrink storage: an edge costs n_in * n_out * kernel / K.
Widths are found greedily: starting from all channels, the group goes down that raises the price
sum of (edges of the group) * sqrt(channels it had) / (channels it keeps) the least per weight
saved.
The reciprocal makes bottlenecks dear, so that no layer collapses, as layers do under global scores
(Tanaka et al. 2020, arXiv 2006.05467); the root lies between keeping the proportions of the model
and giving every group the same width, either of which trained worse on the models tried.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from crespr_onnx.errors import UsageError
from crespr_onnx.layout import ChannelGraph, IntArray

_CONVOLVED_WIDTH = 8
"""Fewest channels per cluster of a group that a convolution reads or writes: grouped convolutions
with narrower groups run slower than dense ones of the same size."""
_DEPTHWISE_UNIT = 4
"""Depthwise convolutions of other numbers of channels run several times slower in ONNX Runtime."""
_STEPS_PER_GROUP = 128
_TINY = 1e-12


@dataclass(frozen=True, eq=False)
class Allocation:
    """Cluster count and width of every channel group.

    Attributes:
        clusters: K per group, shape [groups]; 1 for shared groups.
        widths: channels kept per group, shape [groups]; a multiple of K.
        weights: weights stored in all edges under them.
    """

    clusters: IntArray
    widths: IntArray
    weights: int


def max_ratio(graph: ChannelGraph) -> float:
    """The highest physical ratio that any layout of the graph reaches: one channel per group."""
    widths = np.array([1 if g.frozen is None else len(g.channels) for g in graph.groups])
    clusters = np.ones(len(graph.groups), dtype=np.int64)
    return 1.0 - _Costs(graph, clusters).total(widths) / graph.weights


def check_reach(graph: ChannelGraph, clusters: int, ratio: float) -> None:
    """Refuses a ratio that is out of reach with so many clusters: one channel in each.

    Raises:
        UsageError: saying what is reachable.
    """
    counts = _clusters_per_group(graph, clusters)
    sizes = [
        len(g.channels) if g.frozen is not None else k
        for g, k in zip(graph.groups, counts, strict=True)
    ]
    least = _Costs(graph, counts).total(np.array(sizes, dtype=np.int64))
    if least > _budget(graph, ratio):
        raise UsageError(
            f"ratio {ratio} is out of reach with {clusters} clusters: at most "
            f"{shown(1.0 - least / graph.weights)} of the weights of this model can go; "
            "lower --ratio or --clusters"
        )


def _budget(graph: ChannelGraph, ratio: float) -> int:
    """Weights that may stay stored."""
    return int((1.0 - ratio) * graph.weights + 1e-9)


def shown(reach: float) -> str:
    """A reachable ratio in a message: rounded down, for what a message offers must be reachable."""
    return f"{math.floor(reach * 10_000) / 10_000:.4f}"


def max_clusters(graph: ChannelGraph) -> int:
    """The highest cluster count that at least one edge can be split into."""
    return max(edge_rooms(graph), default=1)


def edge_rooms(graph: ChannelGraph) -> list[int]:
    """For each edge the most clusters that it can be split into, at least 1."""
    room = _room(graph)
    return [
        int(room[graph.groups_on(np.concatenate([e.in_channels, e.out_channels]))].min())
        if e.frozen is None
        else 1
        for e in graph.edges
    ]


def allocate(graph: ChannelGraph, clusters: int, ratio: float) -> Allocation:
    """Widths for one cluster count.

    Args:
        graph: channels of the model.
        clusters: K of every group that can have it; groups that are frozen or too narrow share.
        ratio: physical ratio to reach, in (0, 1).

    Raises:
        UsageError: if the ratio is out of reach with that many clusters, saying what is reachable.
    """
    check_reach(graph, clusters, ratio)
    counts = _clusters_per_group(graph, clusters)
    costs, budget = _Costs(graph, counts), _budget(graph, ratio)
    free = np.array([g.frozen is None for g in graph.groups], dtype=np.bool_)
    sizes = np.array([len(g.channels) for g in graph.groups], dtype=np.int64)
    widths = np.where(free, sizes // counts * counts, sizes)
    least = np.where(free, counts, sizes)
    price = _Price(graph)
    while costs.total(widths) > budget:
        best, lowest = -1, np.inf
        for g in np.flatnonzero(widths > least):
            step = _step(graph, counts, widths, least, int(g))
            saved = costs.change(widths, int(g), -step)
            rise = price.rise(int(g), int(widths[g]), -step) / max(saved, _TINY)
            if rise < lowest:
                best, lowest = int(g), rise
        widths[best] -= _step(graph, counts, widths, least, best)
    units = _units(graph, counts)
    widths -= np.where(free & (widths > units), widths % units, 0)
    _refill(graph, counts, units, costs, price, widths, budget)
    return Allocation(counts, widths, costs.total(widths))


def _units(graph: ChannelGraph, counts: IntArray) -> IntArray:
    """What the width of each group should be a multiple of, if it is that wide; shape [groups]."""
    units = counts.copy()
    for name in graph.depthwise:
        for axis in graph.constants.get(name, ()):
            groups = graph.groups_on(axis.channels)
            units[groups] = np.lcm(counts[groups], _DEPTHWISE_UNIT)
    return units


def _step(graph: ChannelGraph, counts: IntArray, widths: IntArray, least: IntArray, g: int) -> int:
    k = int(counts[g])
    coarse = len(graph.groups[g].channels) // _STEPS_PER_GROUP // k * k
    return min(max(k, coarse), int(widths[g] - least[g]))


def _refill(
    graph: ChannelGraph,
    counts: IntArray,
    units: IntArray,
    costs: "_Costs",
    price: "_Price",
    widths: IntArray,
    budget: int,
) -> None:
    """Spends what is left over, in whole units where a group is that wide."""
    while True:
        best, best_gain = -1, 0.0
        left = budget - costs.total(widths)
        for g, group in enumerate(graph.groups):
            step = int(units[g] if widths[g] >= units[g] else counts[g])
            if group.frozen is not None or widths[g] + step > len(group.channels):
                continue
            extra = -costs.change(widths, g, step)
            gain = -price.rise(g, int(widths[g]), step) / max(extra, _TINY)
            if extra <= left and gain > best_gain:
                best, best_gain = g, gain
        if best < 0:
            return
        widths[best] += units[best] if widths[best] >= units[best] else counts[best]


class _Price:
    """What it costs in quality to keep few channels, see the top of this file."""

    def __init__(self, graph: ChannelGraph) -> None:
        self._scale = np.array([len(g.channels) ** 0.5 for g in graph.groups])
        edges = np.zeros(len(graph.groups))
        for edge in graph.edges:
            if edge.frozen is None:
                for side in (edge.in_channels, edge.out_channels):
                    edges[graph.groups_on(side)] += 1
        self._scale *= edges

    def rise(self, g: int, width: int, change: int) -> float:
        """How much the price rises if group g changes its width."""
        return float(self._scale[g] * (1.0 / max(width + change, _TINY) - 1.0 / width))


class _Costs:
    """Weights stored in all edges as a function of the widths of the groups."""

    def __init__(self, graph: ChannelGraph, clusters: IntArray) -> None:
        self._fixed = graph.opaque_weights
        self._sides: list[tuple[Mapping[int, float], Mapping[int, float], float]] = []
        self._of_group: list[list[int]] = [[] for _ in graph.groups]
        # Edges that share an initializer store it once.
        for edge in {edge.weight: edge for edge in graph.edges}.values():
            if edge.frozen is not None:
                self._fixed += edge.weights
                continue
            inputs, outputs = (_repeats(graph, c) for c in (edge.in_channels, edge.out_channels))
            ks = [{int(clusters[g]) for g in side} for side in (inputs, outputs)]
            k = min(ks[0]) if ks[0] == ks[1] and len(ks[0]) == 1 else 1
            for g in {*inputs, *outputs}:
                self._of_group[g].append(len(self._sides))
            self._sides.append((inputs, outputs, edge.kernel / k))

    def _edge(self, i: int, widths: IntArray) -> float:
        inputs, outputs, unit = self._sides[i]
        n_in = sum(widths[g] * repeat for g, repeat in inputs.items())
        n_out = sum(widths[g] * repeat for g, repeat in outputs.items())
        return float(n_in * n_out * unit)

    def total(self, widths: IntArray) -> int:
        return round(self._fixed + sum(self._edge(i, widths) for i in range(len(self._sides))))

    def change(self, widths: IntArray, g: int, change: int) -> float:
        """Weights saved when one group changes its width (negative where they are added)."""
        changed = widths.copy()
        changed[g] += change
        return sum(self._edge(i, widths) - self._edge(i, changed) for i in self._of_group[g])


def _repeats(graph: ChannelGraph, channels: IntArray) -> dict[int, float]:
    """Group -> positions of the axis per channel of the group."""
    groups, counts = np.unique(graph.group_of[channels], return_counts=True)
    return {
        int(g): n / len(graph.groups[int(g)].channels) for g, n in zip(groups, counts, strict=True)
    }


def _room(graph: ChannelGraph) -> IntArray:
    """The most clusters that each group has room for, at least 1; shape [groups]."""
    least = np.ones(len(graph.groups), dtype=np.int64)
    for edge in graph.edges:
        if edge.op.startswith("Conv"):
            for side in (edge.in_channels, edge.out_channels):
                least[graph.groups_on(side)] = _CONVOLVED_WIDTH
    sizes = np.array([len(g.channels) if g.frozen is None else 1 for g in graph.groups])
    return np.maximum(sizes // least, 1)


def _clusters_per_group(graph: ChannelGraph, clusters: int) -> IntArray:
    """K where a group is free and wide enough; groups that share an axis have the same K."""
    counts = np.where(_room(graph) >= clusters, clusters, 1)
    axes: list[IntArray] = [axis.channels for axis in graph.values.values()]
    axes += [side for e in graph.edges for side in (e.in_channels, e.out_channels)]
    together = {tuple(graph.groups_on(channels)) for channels in axes}
    changed = True
    while changed:
        changed = False
        for groups in together:
            lowest = counts[list(groups)].min()
            changed |= bool((counts[list(groups)] != lowest).any())
            counts[list(groups)] = lowest
    return counts
