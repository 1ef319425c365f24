"""The search for clusters: never worse from step to step, exact in each step, and finds blocks."""

from dataclasses import replace
from itertools import combinations, permutations, product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from training_models import chain, channels, free_groups, importances, normal, parse

from crespr_onnx.errors import UsageError
from crespr_onnx.layout import DROPPED, ChannelGraph, Layout, dense_layout
from crespr_onnx.training.allocate import Allocation, allocate
from crespr_onnx.training.channel_edges import ChannelEdge, channel_edges
from crespr_onnx.training.cluster import (
    ClusterSearch,
    cluster,
    improve,
    log_kept,
    objective,
    random_labels,
    select,
)

fixed = settings(derandomize=True, deadline=None, max_examples=40)

RESIDUAL = """g (float[N, 5] x) => (float[N, 3] y) {
    h = MatMul (x, w1)
    r = Relu (h)
    b = MatMul (r, w2)
    s = Add (h, b)
    c = MatMul (s, w3)
    y = MatMul (c, w4)
}"""


def residual(width: int = 12, inner: int = 9) -> ChannelGraph:
    """A group with an edge to itself, and one more."""
    arrays = {
        "w1": normal(0, 5, width), "w2": normal(1, width, width), "w3": normal(2, width, inner),
        "w4": normal(3, inner, 3),
    }  # fmt: skip
    return channels(parse(RESIDUAL, **arrays))


sizes = st.lists(st.integers(2, 14), min_size=4, max_size=6)
graphs = st.one_of(st.builds(chain, sizes), st.just(residual()))
seeds = st.integers(0, 1000)


def problem(
    graph: ChannelGraph, clusters: int, ratio: float, seed: int
) -> tuple[tuple[ChannelEdge, ...], Allocation, Layout] | None:
    """Importances, sizes and a random start, or None where there is no such layout."""
    edges = importances(graph, seed)
    try:
        allocation = allocate(graph, clusters, ratio)
    except UsageError:
        return None
    rng = np.random.default_rng(seed)
    start = random_labels(graph, edges, allocation, rng)
    reading = {}
    for e in edges:
        if e.edge.name in allocation.fan_in:
            every = start.selections[e.edge.name]
            kept = np.flatnonzero(start.kept(e.in_ids))
            reads = [
                rng.permutation(kept)[: allocation.fan_in[e.edge.name]]
                for _ in range(every.shape[1])
            ]
            reading[e.edge.name] = np.array([np.isin(np.arange(len(every)), r) for r in reads]).T
    return edges, allocation, replace(start, selections=reading)


def kept_literally(graph: ChannelGraph, layout: Layout, edges: tuple[ChannelEdge, ...]) -> float:
    """The objective as it is defined: importance of outputs with the inputs that they read."""
    total = 0.0
    for e in edges:
        selection = layout.selections.get(e.edge.name)
        for j, out in enumerate(layout.labels[e.out_ids]):
            for i, label in enumerate(layout.labels[e.in_ids]):
                if DROPPED in (out, label) or (selection is not None and not selection[i, out]):
                    continue
                total += e.importance[j, i]
    return total


def check_layout(graph: ChannelGraph, layout: Layout, allocation: Allocation) -> None:
    """Labels are clusters or DROPPED, clusters are equal, all sizes are those allotted."""
    np.testing.assert_array_equal(layout.clusters, allocation.clusters)
    for g, group in enumerate(graph.groups):
        labels, k = layout.labels[group.channels], int(allocation.clusters[g])
        if group.frozen is not None:
            assert (labels == 0).all()
            continue
        assert labels.min() >= DROPPED
        assert labels.max() < k
        each = np.bincount(labels[labels != DROPPED], minlength=k)
        assert each.tolist() == [allocation.widths[g] // k] * k
    assert layout.selections.keys() == allocation.fan_in.keys()
    for e in graph.edges:
        if e.name in layout.selections:
            selection = layout.selections[e.name]
            k = layout.axis_clusters(graph, e.out_channels)
            assert selection.sum(axis=0).tolist() == [allocation.fan_in[e.name]] * k
            assert layout.kept(e.in_channels)[selection.any(axis=1)].all(), "reads what is dropped"
    assert allocation.weights == sum(layout.stored_weights(graph, e) for e in graph.edges)


@fixed
@given(graphs, st.sampled_from([1, 2, 3]), st.floats(0.2, 0.8), seeds)
def test_the_objective_never_falls_from_step_to_step(
    graph: ChannelGraph, clusters: int, ratio: float, seed: int
) -> None:
    found = problem(graph, clusters, ratio, seed)
    assume(found is not None)
    edges, allocation, layout = found
    value = objective(layout, edges)
    for _ in range(4):
        layout = improve(graph, edges, allocation, layout, sweeps=1)
        check_layout(graph, layout, allocation)
        new = objective(layout, edges)
        assert new >= value - 1e-12
        value = new
    assert value == pytest.approx(kept_literally(graph, layout, edges), abs=1e-12)
    assert 0 <= value <= len(edges)


@fixed
@given(st.builds(chain, sizes), st.sampled_from([1, 2, 3]), st.floats(0.2, 0.8), seeds)
def test_sweeps_end_where_no_single_group_can_do_better(
    graph: ChannelGraph, clusters: int, ratio: float, seed: int
) -> None:
    found = problem(graph, clusters, ratio, seed)
    assume(found is not None)
    edges, allocation, start = found
    end = improve(graph, edges, allocation, start, sweeps=50)
    again = improve(graph, edges, allocation, end, sweeps=50)
    assert objective(again, edges) == pytest.approx(objective(end, edges), abs=1e-9)
    value = objective(end, edges)
    rng = np.random.default_rng(seed)
    for g in free_groups(graph):
        members = graph.groups[g].channels
        for _ in range(10):
            other = replace(end, labels=end.labels.copy())
            other.labels[members] = rng.permutation(end.labels[members])
            assert objective(other, edges) <= value + 1e-9


def two_clusters(graph: ChannelGraph, width: int, fan_in: dict[str, int]) -> Allocation:
    """Two clusters in both inner groups of a chain of four, smaller than `allocate` has them."""
    sizes = [len(group.channels) for group in graph.groups]
    widths = np.array([sizes[0], width, width, sizes[3]])
    reads = [fan_in.get(e.name, n) for e, n in zip(graph.edges, widths[:3], strict=True)]
    return Allocation(np.array([1, 2, 2, 1]), widths, fan_in, int((widths[1:] * reads).sum()))


@pytest.mark.parametrize(("width", "reads"), [(6, 3), (4, 2), (4, 1)])
@pytest.mark.parametrize("seed", range(4))
def test_each_step_is_optimal_among_all_assignments(width: int, reads: int, seed: int) -> None:
    graph = chain([3, 6, 6, 3])
    edges = importances(graph, seed)
    allocation = two_clusters(graph, width, {"e1": reads})
    every = random_labels(graph, edges, allocation, np.random.default_rng(seed))
    start = replace(every, selections={"e1": np.arange(12).reshape(6, 2) % 5 < 2})
    # The last group of a sweep is assigned against the labels that the others end up with.
    after = improve(graph, edges, allocation, start, sweeps=1)
    members = graph.groups[2].channels
    best = 0.0
    for labels in set(permutations(after.labels[members].tolist())):
        tried = replace(start, labels=after.labels.copy())
        tried.labels[members] = labels
        best = max(best, kept_literally(graph, tried, edges))
    found = replace(start, labels=after.labels)
    assert objective(found, edges) == pytest.approx(best, abs=1e-12)
    check_layout(graph, after, allocation)


@pytest.mark.parametrize("reads", [1, 2, 4])
@pytest.mark.parametrize("seed", range(4))
def test_a_selection_is_optimal_among_all(reads: int, seed: int) -> None:
    graph = chain([3, 6, 6, 3])
    edges = importances(graph, seed)
    allocation = two_clusters(graph, 4, {"e1": reads})
    layout = random_labels(graph, edges, allocation, np.random.default_rng(seed))
    best = 0.0
    for pair in product(combinations(range(6), reads), repeat=2):
        selection = np.array([np.isin(np.arange(6), column) for column in pair]).T
        tried = replace(layout, selections={"e1": selection})
        best = max(best, kept_literally(graph, tried, edges))
    selection = select(edges[1], layout, reads)
    assert selection.sum(axis=0).tolist() == [reads, reads]
    found = replace(layout, selections={"e1": selection})
    assert kept_literally(graph, found, edges) == pytest.approx(best, abs=1e-12)
    assert layout.kept(edges[1].in_ids)[selection.any(axis=1)].all()


def test_what_is_dropped_is_read_only_where_nothing_else_is_left() -> None:
    graph = chain([3, 6, 6, 3])
    edges = importances(graph, 0)
    allocation = two_clusters(graph, 4, {"e1": 5})
    layout = random_labels(graph, edges, allocation, np.random.default_rng(0))
    selection = select(edges[1], layout, 5)
    assert selection.sum(axis=0).tolist() == [5, 5]
    assert selection[layout.kept(edges[1].in_ids)].all()


def test_an_edge_from_a_group_to_itself_may_not_make_it_worse() -> None:
    graph = residual()
    values = []
    for seed in range(20):
        found = problem(graph, 3, 0.5, seed)
        assert found is not None
        edges, allocation, start = found
        end = improve(graph, edges, allocation, start, sweeps=10)
        values.append((objective(start, edges), objective(end, edges)))
    assert all(after >= before for before, after in values)
    assert any(after > before + 0.1 for before, after in values)


def test_random_labels_keep_the_most_important_channels() -> None:
    graph = chain([3, 8, 3])
    edges = importances(graph, 0)
    allocation = allocate(graph, 1, 0.5)
    width = int(allocation.widths[1])
    assert 1 < width < 8
    layout = random_labels(graph, edges, allocation, np.random.default_rng(0))
    scores = edges[0].importance.sum(axis=1) + edges[1].importance.sum(axis=0)
    kept = np.flatnonzero(layout.labels[graph.groups[1].channels] == 0)
    assert sorted(kept) == sorted(np.argsort(-scores)[:width])


@pytest.mark.parametrize("clusters", [2, 4])
@pytest.mark.parametrize("seed", range(3))
def test_planted_clusters_are_found(clusters: int, seed: int) -> None:
    """Blocks of strong connections, hidden by a permutation of each layer's channels."""
    rng = np.random.default_rng(seed)
    graph = chain([4, 16, 16, 16, 3])
    size = 16 // clusters
    hidden = {g: rng.permutation(np.repeat(np.arange(clusters), size)) for g in (1, 2, 3)}
    scores = {
        e.name: rng.uniform(0.0, 0.05, (len(e.out_channels), len(e.in_channels)))
        for e in graph.edges
    }
    for name, a, b in (("e1", 1, 2), ("e2", 2, 3)):
        scores[name][hidden[b][:, None] == hidden[a][None, :]] += 1.0
    edges = channel_edges(graph, scores)
    # All channels stay: only what the clusters read shrinks the model.
    allocation = Allocation(
        clusters=np.array([1, 1, clusters, clusters, 1]),
        widths=np.array([4, 16, 16, 16, 3]),
        fan_in={"e1": size, "e2": size},
        weights=16 * 4 + 2 * 16 * size + 16 * 3,
    )
    layout = cluster(graph, edges, allocation, seed)
    check_layout(graph, layout, allocation)
    for name, a, b in (("e1", 1, 2), ("e2", 2, 3)):
        labels = layout.labels[graph.groups[b].channels]
        names = {int(label): int(h) for label, h in zip(labels, hidden[b], strict=True)}
        assert [names[int(label)] for label in labels] == hidden[b].tolist()
        for label, h in names.items():
            np.testing.assert_array_equal(layout.selections[name][:, label], hidden[a] == h)


def test_the_same_seed_gives_the_same_labels() -> None:
    graph = residual()
    edges, allocation = importances(graph, 5), allocate(graph, 3, 0.5)
    assert allocation.fan_in
    first, second = (cluster(graph, edges, allocation, seed=7) for _ in range(2))
    np.testing.assert_array_equal(first.labels, second.labels)
    assert first.selections.keys() == second.selections.keys() == allocation.fan_in.keys()
    for name, selection in first.selections.items():
        np.testing.assert_array_equal(selection, second.selections[name])
    check_layout(graph, first, allocation)


def test_more_starts_are_never_worse() -> None:
    graph = chain([3, 24, 24, 3])
    edges, allocation = importances(graph, 3), allocate(graph, 3, 0.4)
    assert allocation.clusters.max() == 3
    values = [
        objective(cluster(graph, edges, allocation, 0, ClusterSearch(starts=n)), edges)
        for n in (1, 2, 4, 8)
    ]
    assert values == sorted(values)
    assert values[-1] > values[0]


def test_log_kept_of_a_whole_model_is_zero_and_falls_with_what_goes() -> None:
    graph = chain([3, 8, 8, 3])
    edges = importances(graph, 0)
    assert log_kept(dense_layout(graph), edges) == pytest.approx(0.0, abs=1e-12)
    layouts = [cluster(graph, edges, allocate(graph, 2, ratio), 0) for ratio in (0.3, 0.7)]
    a, b = (log_kept(layout, edges) for layout in layouts)
    assert 0 > a > b
    shares = [e.importance[layouts[0].edge_mask(graph, e.edge)].sum() for e in edges]
    assert a == pytest.approx(np.log(shares).sum(), abs=1e-12)
