"""What the search for labels rests on: sums that stay right as labels change, and grown starts."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from training_models import chain, channels, importances, normal, parse

from crespr_onnx.layout import DROPPED, ChannelGraph, Layout
from crespr_onnx.training.allocate import Allocation
from crespr_onnx.training.channel_edges import ChannelEdge, channel_edges
from crespr_onnx.training.cluster import improve, objective, random_labels, select
from crespr_onnx.training.grow import grown_labels
from crespr_onnx.training.kept_sums import KeptSums, given, kept, received
from crespr_onnx.training.reassign import reassign, sides_by_group

CONVOLVED = """g (float[N, 2, 3, 3] x) => (float[N, 4] y) {
    a = Conv <kernel_shape = [1, 1]> (x, w1)
    b = Conv <kernel_shape = [1, 1]> (a, w2)
    s = Add (a, b)
    f = Flatten (s)
    y = MatMul (f, w3)
}"""


def convolved() -> ChannelGraph:
    """A group with an edge to itself, and a flatten that repeats its channels."""
    return channels(
        parse(CONVOLVED, w1=normal(0, 8, 2, 1, 1), w2=normal(1, 8, 8, 1, 1), w3=normal(2, 72, 4))
    )


def start(graph: ChannelGraph, seed: int) -> tuple[tuple[ChannelEdge, ...], Allocation, Layout]:
    """Random labels in two clusters of half of all channels, that read a third of their inputs."""
    free = np.array([group.frozen is None for group in graph.groups])
    sizes = np.array([len(group.channels) for group in graph.groups])
    edges = importances(graph, seed)
    fan_in = {e.edge.name: len(e.in_ids) // 3 for e in edges[1:] if len(e.out_ids) > 4}
    allocation = Allocation(np.where(free, 2, 1), np.where(free, sizes // 4 * 2, sizes), fan_in, 0)
    layout = random_labels(graph, edges, allocation, np.random.default_rng(seed))
    chosen = {e.edge.name: select(e, layout, fan_in[e.edge.name]) for e in edges[1:]
              if e.edge.name in fan_in}  # fmt: skip
    return edges, allocation, replace(layout, selections=chosen)


def literally(e: ChannelEdge, layout: Layout) -> tuple[np.ndarray, np.ndarray, float]:
    """`given`, `received` and `kept` of an edge, connection by connection."""
    selection = layout.selections.get(e.edge.name)
    clusters = 1 if selection is None else selection.shape[1]
    gifts, gains = np.zeros((len(e.in_ids), clusters)), np.zeros((len(e.out_ids), clusters))
    total = 0.0
    for j, label in enumerate(layout.labels[e.out_ids]):
        for i, there in enumerate(layout.kept(e.in_ids)):
            own = 0 if selection is None else label
            if label != DROPPED:
                gifts[i, own] += e.importance[j, i]
            for k in range(clusters):
                if there and (selection is None or selection[i, k]):
                    gains[j, k] += e.importance[j, i]
                    total += e.importance[j, i] * (label != DROPPED and k == own)
    return gifts, gains, total


GRAPHS = {"chain": lambda: chain([6, 8, 12, 3]), "convolved": convolved}


@pytest.mark.parametrize("kind", GRAPHS)
@pytest.mark.parametrize("seed", range(3))
def test_sums_are_what_they_say(kind: str, seed: int) -> None:
    edges, _, layout = start(GRAPHS[kind](), seed)
    assert layout.selections
    for e in edges:
        gifts, gains, total = literally(e, layout)
        np.testing.assert_allclose(given(e, layout), gifts, atol=1e-14)
        np.testing.assert_allclose(received(e, layout), gains, atol=1e-14)
        assert kept(e, layout) == pytest.approx(total, abs=1e-14)


@pytest.mark.parametrize("kind", GRAPHS)
def test_sums_stay_right_while_labels_change(kind: str) -> None:
    graph = GRAPHS[kind]()
    changed = 0
    for seed in range(6):
        edges, allocation, layout = start(graph, seed)
        sums, sides = KeptSums(layout), sides_by_group(graph, edges)
        for g, group in enumerate(graph.groups):
            if group.frozen is not None:
                continue
            for e in edges:  # known before, so that it has to be forgotten where it changes
                sums.given(e)
                sums.received(e)
            value, before = sums.kept(edges), sums.layout.labels
            reassign(group.channels, 2, int(allocation.widths[g]), sides[g], sums)
            assert sums.kept(edges) >= value - 1e-14
            changed += int((sums.layout.labels != before).sum())
            for e in edges:
                np.testing.assert_array_equal(sums.given(e), given(e, sums.layout))
                np.testing.assert_array_equal(sums.received(e), received(e, sums.layout))
    assert changed


def test_grown_clusters_are_those_that_read_the_same_inputs() -> None:
    graph = chain([24, 24, 3])
    rng = np.random.default_rng(0)
    hidden = rng.permutation(np.repeat(np.arange(4), 6))
    scores = {e.name: rng.uniform(0.0, 0.1, (len(e.out_channels), len(e.in_channels)))
              for e in graph.edges}  # fmt: skip
    scores["e0"][hidden[:, None] == np.repeat(np.arange(4), 6)] += 1.0
    edges = channel_edges(graph, scores)
    allocation = Allocation(np.array([1, 4, 1]), np.array([24, 24, 3]), {"e0": 6}, 0)
    before = random_labels(graph, edges, allocation, rng)
    after = grown_labels(graph, edges, before, rng.permutation(graph.n_channels))
    found = after.labels[graph.groups[1].channels]
    assert len({*zip(found, hidden, strict=True)}) == 4
    assert after.selections == before.selections


def test_grown_clusters_hold_the_same_channels_in_equal_shares() -> None:
    graph = convolved()
    edges, _, layout = start(graph, 0)
    grown = grown_labels(graph, edges, layout, np.arange(graph.n_channels))
    np.testing.assert_array_equal(grown.labels == DROPPED, layout.labels == DROPPED)
    assert (grown.labels != layout.labels).any()
    for group in graph.groups:
        if group.frozen is None:
            each = np.bincount(grown.labels[group.channels] + 1, minlength=3)[1:]
            assert each[0] == each[1] > 0


def test_improving_copies_no_importance() -> None:
    """Of a layer with many weights there is no room for a second one of its size."""
    graph = chain([600, 600, 4])
    edges, allocation, layout = start(graph, 0)
    allocation = replace(allocation, fan_in={"e0": 60})
    layout = replace(layout, selections={"e0": np.ones((600, 2), dtype=np.bool_)})
    tracemalloc.start()
    end = improve(graph, edges, allocation, layout, sweeps=3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.2 * edges[0].importance.nbytes
    assert objective(end, edges) > 0
