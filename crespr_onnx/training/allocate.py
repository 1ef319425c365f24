"""How many channels each group keeps, and how many inputs each cluster reads, under the budget.

An edge stores n_out * (inputs that a cluster reads) * kernel weights, however many clusters its
outputs form; so widths and reads are found first (shrink.py), and clusters follow from the widths.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from crespr_onnx.layout import ChannelGraph, IntArray, WeightedEdge
from crespr_onnx.training.knobs import Knobs, Reading, selecting_edges
from crespr_onnx.training.shrink import Budget, Shrunk, shrink

READINGS = (Reading(0.75), Reading(1.5), Reading(1.5, by_convolutions=False))
"""All are tried: networks of wide linear layers train best with the first, small convolutional
ones with the second; deep convolutional ones train as well with the third, and run faster."""
LINEAR_BLOCK = 4
CONVOLVED_BLOCK = 8
"""Fewest channels per cluster: narrower blocks cost more to run than they store less."""
_DEPTHWISE_UNIT = 4
"""Depthwise convolutions of other numbers of channels run several times slower in ONNX Runtime."""
_TINY = 1e-12


@dataclass(frozen=True, eq=False)
class Allocation:
    """Cluster count and width of every channel group, and what the clusters read.

    Attributes:
        clusters: K per group, shape [groups]; 1 for shared groups.
        widths: channels kept per group, shape [groups]; a multiple of K.
        fan_in: edge name -> input positions that each cluster of its outputs reads, for edges whose
            clusters do not read all that is kept.
        weights: weights stored in all edges under them.
    """

    clusters: IntArray
    widths: IntArray
    fan_in: Mapping[str, int]
    weights: int

    @property
    def sizes(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[tuple[str, int], ...]]:
        """Clusters, widths and reads, to compare allocations by."""
        return tuple(self.clusters), tuple(self.widths), tuple(sorted(self.fan_in.items()))


def max_clusters(graph: ChannelGraph) -> int:
    """The highest cluster count that at least one edge can be split into."""
    return max(edge_rooms(graph), default=1)


def edge_rooms(graph: ChannelGraph) -> list[int]:
    """For each edge the most clusters that its outputs can form, at least 1."""
    room = _room(graph)
    selecting = {edge.name for edge in selecting_edges(graph)}
    return [
        int(room[graph.groups_on(e.out_channels)].min()) if e.name in selecting else 1
        for e in graph.edges
    ]


def allocate(
    graph: ChannelGraph,
    clusters: int,
    ratio: float,
    reading: Reading = READINGS[0],
    mac_ratio: float | None = None,
) -> Allocation:
    """Widths, reads and clusters under a budget.

    Args:
        graph: channels of the model.
        clusters: most clusters of any group; narrow groups have fewer.
        ratio: physical ratio to reach, in (0, 1).
        reading: how much clusters may be left to read.
        mac_ratio: share of the multiply-accumulates to save at least, in (0, 1), or None.

    Raises:
        UsageError: if a ratio is out of reach, saying what is reachable.
    """
    return form_clusters(shrink(graph, ratio, reading, mac_ratio), clusters)


def form_clusters(shrunk: Shrunk, clusters: int) -> Allocation:
    """Clusters as the widths have room for them, and widths and reads in multiples of them."""
    knobs, values = shrunk.knobs, shrunk.values.copy()
    graph = knobs.graph
    n = len(graph.groups)
    counts = _clusters_per_group(graph, knobs.selecting, values[:n], clusters)
    units = np.ones_like(values)
    units[:n] = _units(graph, counts)
    values -= np.where(knobs.free & (values > units), values % units, 0)
    values[:n] -= values[:n] % counts
    _refill(shrunk, units, counts, values)
    readable = [(e, knobs.readable(e, values), int(f)) for e, f in _fan_ins(knobs, values)]
    fan_in = {edge.name: f for edge, there, f in readable if f < there}
    return Allocation(counts, values[:n], fan_in, knobs.total(values))


def _units(graph: ChannelGraph, counts: IntArray) -> IntArray:
    """What the width of each group should be a multiple of, if it is that wide; shape [groups]."""
    units = counts.copy()
    for name in graph.depthwise:
        for axis in graph.constants.get(name, ()):
            groups = graph.groups_on(axis.channels)
            units[groups] = np.lcm(counts[groups], _DEPTHWISE_UNIT)
    return units


def _refill(shrunk: Shrunk, units: IntArray, counts: IntArray, values: IntArray) -> None:
    """Spends what is left over, in whole units where a group is that wide."""
    knobs, budget = shrunk.knobs, shrunk.budget
    while True:
        best, best_step, best_gain = -1, 0, 0.0
        left = Budget(budget.weights - knobs.total(values), budget.macs - knobs.macs(values))
        for k in np.flatnonzero(knobs.free):
            step = int(units[k])
            if k < len(counts) and values[k] < step:
                step = int(counts[k])
            if values[k] + step > knobs.sizes[k]:
                continue
            weights, macs = (-less for less in knobs.saved(values, int(k), -step))
            spent = weights + shrunk.mac_price * macs
            gain = -knobs.rise(values, int(k), -step) / max(spent, _TINY)
            # What costs nothing changes nothing: a cluster that is to read more than there is.
            if 0 < weights <= left.weights and macs <= left.macs and gain > best_gain:
                best, best_step, best_gain = int(k), step, gain
        if best < 0:
            return
        values[best] += best_step


def _fan_ins(knobs: Knobs, values: IntArray) -> list[tuple[WeightedEdge, IntArray]]:
    return list(zip(knobs.selecting, values[len(knobs.graph.groups) :], strict=True))


def _blocks(graph: ChannelGraph) -> IntArray:
    """The fewest channels that a cluster of each group may have, shape [groups]."""
    least = np.full(len(graph.groups), LINEAR_BLOCK, dtype=np.int64)
    for edge in graph.edges:
        if edge.is_convolution:
            for side in (edge.in_channels, edge.out_channels):
                least[graph.groups_on(side)] = CONVOLVED_BLOCK
    return least


def _room(graph: ChannelGraph) -> IntArray:
    """The most clusters that each group has room for, at least 1; shape [groups]."""
    sizes = np.array([len(g.channels) for g in graph.groups], dtype=np.int64)
    most = int(sizes.max(initial=1))
    return _clusters_per_group(graph, selecting_edges(graph), sizes, most)


def _clusters_per_group(
    graph: ChannelGraph, selecting: Sequence[WeightedEdge], widths: IntArray, clusters: int
) -> IntArray:
    """As many clusters as the width of a group has room for; those that share an axis agree."""
    counts: IntArray = np.clip(widths // _blocks(graph), 1, clusters)
    written = {g for edge in selecting for g in graph.groups_on(edge.out_channels)}
    for g, group in enumerate(graph.groups):
        if group.frozen is not None or g not in written:
            counts[g] = 1
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
