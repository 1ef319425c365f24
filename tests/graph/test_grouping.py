"""Grouping channels by the axes that they live on, against one signature for each channel."""

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from crespr_onnx.graph.grouping import group_channels


def slow_groups(
    axes: list[tuple[str, list[int]]], frozen: list[str | None]
) -> list[tuple[str, list[int], str | None]]:
    """By definition: one group for each way of lying on the axes, in order of lowest channel."""
    members: dict[object, list[int]] = {}
    for channel, reason in enumerate(frozen):
        counts = tuple(Counter(ids)[channel] for _, ids in axes)
        members.setdefault((counts, reason), []).append(channel)
    groups, names = [], set()
    for (counts, reason), channels in members.items():
        first = next((i for i, count in enumerate(counts) if count), None)
        tensor = "unused" if first is None else axes[first][0]
        name = tensor
        for number in range(2, len(frozen) + len(axes) + 2):
            if name not in names:
                break
            name = f"{tensor}#{number}"
        names.add(name)
        groups.append((name, channels, reason))
    return groups


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.data())
def test_like_one_signature_for_each_channel(data: st.DataObject):
    n = data.draw(st.integers(0, 12))
    reasons = st.sampled_from([None, None, "is a graph output", "is not understood"])
    frozen = data.draw(st.lists(reasons, min_size=n, max_size=n))
    ids = st.lists(st.integers(0, max(0, n - 1)), max_size=10 if n else 0)
    axes = data.draw(st.lists(st.tuples(st.sampled_from(["a", "b", "a#2"]), ids), max_size=6))
    found = group_channels([(name, np.array(i, np.int64)) for name, i in axes], frozen)
    assert [(g.name, g.channels.tolist(), g.frozen) for g in found] == slow_groups(axes, frozen)


def test_an_axis_that_shows_some_channels_twice_parts_them_from_the_others():
    axes = [("a", np.arange(4)), ("b", np.array([0, 1, 2, 3, 0, 1]))]
    found = group_channels(axes, [None] * 4)
    assert [(g.name, g.channels.tolist()) for g in found] == [("a", [0, 1]), ("a#2", [2, 3])]


def test_channels_that_are_frozen_for_different_reasons_are_apart():
    found = group_channels([("a", np.arange(3))], ["one", "two", "one"])
    assert [(g.channels.tolist(), g.frozen) for g in found] == [([0, 2], "one"), ([1], "two")]
