"""How much is left of every group and every selection under a budget of weights, and of work.

Starting from the dense model, the knob goes down that raises the price the least per weight saved.
The price of a group is (edges of the group) * sqrt(channels it had) / (channels it keeps), that of
a selection read_price * sqrt(inputs there are) / (inputs a cluster reads). The reciprocal makes
bottlenecks dear, so that no layer collapses, as layers do under global scores (Tanaka et al. 2020,
arXiv 2006.05467); the root lies between keeping the proportions of the model and giving every
group the same width, either of which trained worse on the models tried.

Where multiply-accumulates are limited as well, what a step saves is (weights) + mu * (those), a
Lagrangian with one multiplier: the smallest mu with which both budgets are met at once.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from crespr_onnx.errors import UsageError
from crespr_onnx.layout import ChannelGraph, IntArray
from crespr_onnx.training.knobs import Knobs, Reading

_STEPS_PER_KNOB = 128
_TINY = 1e-12
_ANY = Reading()
_MULTIPLIERS: tuple[float, ...] = (0.0, *(2.0 ** (i / 4) for i in range(-40, 41)))
"""What all multiply-accumulates of a model may be worth saving, relative to all its weights."""


@dataclass(frozen=True)
class Budget:
    """What may be left.

    Attributes:
        weights: that are stored.
        macs: multiply-accumulates per sample.
    """

    weights: float
    macs: float = math.inf


@dataclass(frozen=True, eq=False)
class Shrunk:
    """Knobs turned down until what is left fits a budget.

    Attributes:
        knobs: what they are.
        values: where they stand, shape [knobs].
        budget: what may be left.
        mac_price: what a multiply-accumulate is worth saving, in weights.
    """

    knobs: Knobs
    values: IntArray
    budget: Budget
    mac_price: float = 0.0


def max_ratio(graph: ChannelGraph, reading: Reading = _ANY) -> float:
    """The highest physical ratio that any layout reaches: one channel per group, one input read."""
    knobs = Knobs(graph, reading)
    return 1.0 - knobs.total(knobs.least) / graph.weights


def max_mac_ratio(graph: ChannelGraph, reading: Reading = _ANY) -> float:
    """The highest share of multiply-accumulates that any layout saves.

    Raises:
        ValueError: if the graph does not know them.
    """
    knobs = Knobs(graph, reading)
    return 1.0 - knobs.macs(knobs.least) / max(_all_macs(graph), 1)


def shown(reach: float) -> str:
    """A reachable ratio in a message: rounded down, for what a message offers must be reachable."""
    return f"{math.floor(reach * 10_000) / 10_000:.4f}"


def shrink(
    graph: ChannelGraph, ratio: float, reading: Reading, mac_ratio: float | None = None
) -> Shrunk:
    """Turns down what costs the least quality per weight saved, again and again.

    Args:
        graph: channels of the model.
        ratio: physical ratio to reach, in (0, 1).
        reading: how much clusters may be left to read.
        mac_ratio: share of the multiply-accumulates to save at least, in (0, 1), or None.

    Raises:
        UsageError: if a ratio is out of reach, saying what is reachable.
        ValueError: if multiply-accumulates are limited and the graph does not know them.
    """
    knobs = Knobs(graph, reading)
    budget = Budget(int((1.0 - ratio) * graph.weights + 1e-9))
    if knobs.total(knobs.least) > budget.weights:
        raise UsageError(
            f"ratio {ratio} is out of reach: at most {shown(max_ratio(graph, reading))} of the "
            "weights of this model can go; lower --ratio"
        )
    if mac_ratio is None:
        return Shrunk(knobs, turned_down(knobs, budget, 0.0), budget)
    whole = _all_macs(graph)
    both = Budget(budget.weights, int((1.0 - mac_ratio) * whole + 1e-9))
    if knobs.macs(knobs.least) > both.macs:
        raise UsageError(
            f"mac ratio {mac_ratio} is out of reach: at most {shown(max_mac_ratio(graph, reading))}"
            " of the multiply-accumulates of this model can go; lower --mac-ratio"
        )

    def price(i: int) -> float:
        return _MULTIPLIERS[i] * graph.weights / max(whole, 1)

    def both_met(i: int) -> bool:
        return knobs.macs(turned_down(knobs, budget, price(i))) <= both.macs

    mac_price = price(_lowest(both_met, len(_MULTIPLIERS) - 1))
    return Shrunk(knobs, turned_down(knobs, both, mac_price), both, mac_price)


def _all_macs(graph: ChannelGraph) -> int:
    if graph.macs is None:
        raise ValueError("the multiply-accumulates of this graph are not known; see with_macs")
    return graph.macs


def _lowest(holds: Callable[[int], bool], most: int) -> int:
    """The lowest number up to `most` for which something holds, or `most`; 0 is tried first."""
    if holds(0):
        return 0
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def turned_down(knobs: Knobs, budget: Budget, mac_price: float) -> IntArray:
    """Where the knobs stand when a budget is met that they can meet."""
    values, least = knobs.sizes.copy(), knobs.least

    def step(k: int) -> int:
        return min(max(1, int(knobs.sizes[k]) // _STEPS_PER_KNOB), int(values[k] - least[k]))

    def price(k: int) -> float:
        """Of one weight less, by this knob."""
        if values[k] <= least[k]:
            return np.inf
        weights, macs = knobs.saved(values, k, step(k))
        return knobs.rise(values, k, step(k)) / max(weights + mac_price * macs, _TINY)

    prices = np.array([price(k) for k in range(len(values))])
    stored, work = float(knobs.total(values)), float(knobs.macs(values))
    while stored > budget.weights or work > budget.macs:
        cheapest = int(np.argmin(prices))
        weights, macs = knobs.saved(values, cheapest, step(cheapest))
        stored, work = stored - weights, work - macs
        values[cheapest] -= step(cheapest)
        for k in knobs.beside[cheapest]:
            prices[k] = price(k)
    return values
