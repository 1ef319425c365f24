"""The transportation problem with few bins: items of unit size, bins of fixed capacity, exactly.

A general assignment solver sees a bin as many equal columns and takes time cubic in the items; with
K bins instead, shortest paths run over K nodes. Successive shortest paths (Ahuja, Magnanti, Orlin,
Network Flows, 1993, section 9.7) start from prices that nearly balance the bins, so that few items
are left to be moved.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from crespr_onnx.layout import IntArray

FloatArray = NDArray[np.float64]

_ROUNDS = 4
"""Passes over all prices; only speed depends on them."""


def transport(value: FloatArray, capacity: IntArray) -> IntArray:
    """Gives every item a bin such that the summed value is the highest possible.

    Args:
        value: what an item is worth in a bin, shape [items, bins].
        capacity: items that go into each bin, shape [bins]; they sum to the number of items.

    Returns:
        Bin of each item, shape [items].
    """
    # A row per bin makes every step below run along the items.
    value = np.ascontiguousarray(value.T)
    # Subtracting a price per bin changes every solution by the same amount. Where each item is in
    # the bin that it likes best, nothing could be better: the excess then moves at least loss.
    value -= _balancing_prices(value, capacity)[:, None]
    bins: IntArray = np.argmax(value, axis=0)
    left = capacity - np.bincount(bins, minlength=len(capacity))
    loss = np.full((len(capacity), len(capacity)), np.inf)
    mover = np.full(loss.shape, -1, dtype=np.int64)
    changed = list(range(len(capacity)))
    tiny = 1e-12 * float(np.abs(value).max(initial=0.0))
    while (left < 0).any():
        for a in changed:
            _find_movers(value, bins, a, loss, mover)
        path = _shortest_path(loss, left < 0, left > 0, tiny)
        for a, b in pairwise(path):
            bins[mover[a, b]] = b
        left[path[0]] += 1
        left[path[-1]] -= 1
        changed = path
    return bins


def _balancing_prices(value: FloatArray, capacity: IntArray) -> FloatArray:
    """Prices at which about as many items as fit like each bin best; `value` by bins and items.

    One price after the other is set so that its bin is filled, given the others: descent on the
    dual problem along its coordinates, which comes close to its minimum but may stop short of it.
    """
    m, n = value.shape
    prices = np.zeros(m)
    if m == 1:
        return prices
    offers = value.copy()
    for b in list(range(m)) * _ROUNDS:
        offers[b] = -np.inf
        margins = value[b] - offers.max(axis=0)
        c = n - int(capacity[b])
        around = [max(c - 1, 0), min(c, n - 1)]
        prices[b] = np.partition(margins, around)[around].mean()
        offers[b] = value[b] - prices[b]
    return prices


def _find_movers(
    value: FloatArray, bins: IntArray, a: int, loss: FloatArray, mover: IntArray
) -> None:
    """For each other bin the item of bin `a` that moves there at the least loss, in place."""
    members = np.flatnonzero(bins == a)
    loss[a] = np.inf
    if len(members):
        losses = value[a, members] - value[:, members]
        best = losses.argmin(axis=1)
        loss[a] = losses[np.arange(len(losses)), best]
        mover[a] = members[best]
        loss[a, a] = np.inf


def _shortest_path(
    loss: FloatArray, sources: NDArray[np.bool_], sinks: NDArray[np.bool_], tiny: float
) -> list[int]:
    """The path of least loss from any source to any sink (Bellman and Ford's method).

    Losses may be negative, cycles are not: only steps larger than rounding errors count.
    """
    distance = np.where(sources, 0.0, np.inf)
    before = np.full(len(loss), -1, dtype=np.int64)
    for _ in range(len(loss)):
        through = distance[:, None] + loss
        via = through.argmin(axis=0)
        reached = through[via, np.arange(len(loss))]
        closer = reached < distance - tiny
        if not closer.any():
            break
        distance[closer], before[closer] = reached[closer], via[closer]
    path = [int(np.argmin(np.where(sinks, distance, np.inf)))]
    while before[path[-1]] >= 0:
        path.append(int(before[path[-1]]))
    return path[::-1]
