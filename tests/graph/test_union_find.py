"""The union-find against sets in plain Python."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crespr_onnx.graph.union_find import UnionFind

IDS = st.integers(0, 199)


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, list[int], list[int]]]:
    """Operations on ids; ids that do not exist yet are taken modulo those that do."""
    steps = []
    for kind in draw(st.lists(st.sampled_from(["fresh", "unite", "mark"]), max_size=12)):
        a = draw(st.lists(IDS, max_size=8))
        b = draw(st.lists(IDS, min_size=len(a), max_size=len(a)))
        steps.append((kind, a, b))
    return steps


class SlowUnionFind:
    """Sets of ids, each with the reasons that its ids were given."""

    def __init__(self) -> None:
        self.sets: list[set[int]] = []
        self.marks: list[tuple[int, str]] = []

    def set_of(self, i: int) -> set[int]:
        return next(s for s in self.sets if i in s)

    def unite(self, i: int, j: int) -> None:
        a, b = self.set_of(i), self.set_of(j)
        if a is not b:
            self.sets.remove(b)
            a |= b

    def reason(self, i: int) -> str | None:
        return next((text for j, text in self.marks if j in self.set_of(i)), None)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(histories())
def test_like_sets_in_plain_python(history: list[tuple[str, list[int], list[int]]]):
    fast, slow = UnionFind(), SlowUnionFind()
    size = 0
    for number, (kind, a, b) in enumerate([("fresh", [3], []), *history]):
        if kind == "fresh":
            n = sum(a) % 40
            np.testing.assert_array_equal(fast.fresh(n), np.arange(size, size + n))
            slow.sets += [{i} for i in range(size, size + n)]
            size += n
            continue
        first, second = (np.array([i % size for i in side], np.int64) for side in (a, b))
        if kind == "unite":
            fast.unite(first, second)
            for i, j in zip(first.tolist(), second.tolist(), strict=True):
                slow.unite(i, j)
        else:
            fast.mark(first, f"reason {number}")
            slow.marks += [(i, f"reason {number}") for i in first.tolist()]
    everyone = np.arange(size)
    assert len(fast) == size
    assert fast.find(everyone).tolist() == [min(slow.set_of(i)) for i in range(size)]
    assert fast.reasons(everyone) == [slow.reason(i) for i in range(size)]


def test_several_sets_that_want_the_same_one_meet():
    sets = UnionFind()
    sets.fresh(5)
    sets.unite(np.array([4, 4, 4]), np.array([1, 3, 2]))
    assert sets.find(np.arange(5)).tolist() == [0, 1, 1, 1, 1]


@pytest.mark.parametrize("order", [(3, 1), (1, 3)])
def test_the_first_reason_stands_whichever_set_it_was_given_to(order: tuple[int, int]):
    sets = UnionFind()
    sets.fresh(4)
    for i in order:
        sets.mark(np.array([i]), f"about {i}")
    sets.unite(np.array([1]), np.array([3]))
    assert sets.reasons(np.arange(4)) == [None, f"about {order[0]}", None, f"about {order[0]}"]


def test_a_long_chain_is_flat_after_one_look():
    sets = UnionFind()
    ids = sets.fresh(1000)
    sets.unite(ids[1:], ids[:-1])
    assert not sets.find(ids).any()
    assert not sets._parent[ids].any()
