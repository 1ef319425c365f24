"""How much is left of every group and every selection under a budget of stored weights.

Starting from the dense model, the knob goes down that raises the price the least per weight saved.
The price of a group is (edges of the group) * sqrt(channels it had) / (channels it keeps), that of
a selection read_price * sqrt(inputs there are) / (inputs a cluster reads). The reciprocal makes
bottlenecks dear, so that no layer collapses, as layers do under global scores (Tanaka et al. 2020,
arXiv 2006.05467); the root lies between keeping the proportions of the model and giving every
group the same width, either of which trained worse on the models tried.
"""

import math
from dataclasses import dataclass

import numpy as np

from crespr_onnx.errors import UsageError
from crespr_onnx.layout import ChannelGraph, IntArray
from crespr_onnx.training.knobs import Knobs, Reading

_STEPS_PER_KNOB = 128
_TINY = 1e-12
_ANY = Reading()


@dataclass(frozen=True, eq=False)
class Shrunk:
    """Knobs turned down until what is stored fits a budget.

    Attributes:
        knobs: what they are.
        values: where they stand, shape [knobs].
        budget: weights that may be stored.
    """

    knobs: Knobs
    values: IntArray
    budget: int


def max_ratio(graph: ChannelGraph, reading: Reading = _ANY) -> float:
    """The highest physical ratio that any layout reaches: one channel per group, one input read."""
    knobs = Knobs(graph, reading)
    return 1.0 - knobs.total(knobs.least) / graph.weights


def shown(reach: float) -> str:
    """A reachable ratio in a message: rounded down, for what a message offers must be reachable."""
    return f"{math.floor(reach * 10_000) / 10_000:.4f}"


def shrink(graph: ChannelGraph, ratio: float, reading: Reading) -> Shrunk:
    """Turns down what costs the least quality per weight saved, again and again.

    Args:
        graph: channels of the model.
        ratio: physical ratio to reach, in (0, 1).
        reading: how much clusters may be left to read.

    Raises:
        UsageError: if the ratio is out of reach, saying what is reachable.
    """
    knobs = Knobs(graph, reading)
    budget = int((1.0 - ratio) * graph.weights + 1e-9)
    values = knobs.sizes.copy()
    least = knobs.least
    if knobs.total(least) > budget:
        raise UsageError(
            f"ratio {ratio} is out of reach: at most {shown(max_ratio(graph, reading))} of the "
            "weights of this model can go; lower --ratio"
        )

    def step(k: int) -> int:
        return min(max(1, int(knobs.sizes[k]) // _STEPS_PER_KNOB), int(values[k] - least[k]))

    def price(k: int) -> float:
        """Of one weight less, by this knob."""
        if values[k] <= least[k]:
            return np.inf
        return knobs.rise(values, k, step(k)) / max(knobs.saved(values, k, step(k)), _TINY)

    prices = np.array([price(k) for k in range(len(values))])
    stored = float(knobs.total(values))
    while stored > budget:
        cheapest = int(np.argmin(prices))
        stored -= knobs.saved(values, cheapest, step(cheapest))
        values[cheapest] -= step(cheapest)
        for k in knobs.beside(cheapest):
            prices[k] = price(k)
    return Shrunk(knobs, values, budget)
