"""The search for labels: never worse from step to step, exact in each step, and it finds blocks."""

from itertools import permutations

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
    """Importances, widths and a random start, or None where there is no such layout."""
    edges = importances(graph, seed)
    try:
        allocation = allocate(graph, clusters, ratio)
    except UsageError:
        return None
    start = random_labels(graph, edges, allocation, np.random.default_rng(seed))
    return edges, allocation, start


def kept_literally(graph: ChannelGraph, layout: Layout, edges: tuple[ChannelEdge, ...]) -> float:
    """The objective as the design has it: importance between equal labels, or all kept ones."""
    total = 0.0
    for e in edges:
        k_in, k_out = (layout.axis_clusters(graph, c) for c in (e.in_ids, e.out_ids))
        for j, out in enumerate(layout.labels[e.out_ids]):
            for i, label in enumerate(layout.labels[e.in_ids]):
                if DROPPED in (out, label) or (k_in == k_out > 1 and out != label):
                    continue
                total += e.importance[j, i]
    return total


def check_layout(graph: ChannelGraph, layout: Layout, allocation: Allocation) -> None:
    """Labels are clusters or DROPPED, clusters are equal, widths are those allotted."""
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


@fixed
@given(graphs, st.sampled_from([1, 2, 3]), st.floats(0.2, 0.8), seeds)
def test_the_objective_never_falls_from_step_to_step(
    graph: ChannelGraph, clusters: int, ratio: float, seed: int
) -> None:
    found = problem(graph, clusters, ratio, seed)
    assume(found is not None)
    edges, allocation, layout = found
    value = objective(graph, layout, edges)
    for _ in range(4):
        layout = improve(graph, edges, allocation, layout, sweeps=1)
        check_layout(graph, layout, allocation)
        new = objective(graph, layout, edges)
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
    assert objective(graph, again, edges) == pytest.approx(objective(graph, end, edges), abs=1e-9)
    value = objective(graph, end, edges)
    rng = np.random.default_rng(seed)
    for g in free_groups(graph):
        members = graph.groups[g].channels
        for _ in range(10):
            other = Layout(end.labels.copy(), end.clusters)
            other.labels[members] = rng.permutation(end.labels[members])
            assert objective(graph, other, edges) <= value + 1e-9


@pytest.mark.parametrize(("ratio", "width"), [(0.25, 6), (0.55, 4)])
@pytest.mark.parametrize("seed", range(4))
def test_each_step_is_optimal_among_all_assignments(ratio: float, width: int, seed: int) -> None:
    graph = chain([3, 6, 6, 3])
    found = problem(graph, 2, ratio, seed)
    assert found is not None
    edges, allocation, start = found
    assert allocation.widths.tolist() == [3, width, width, 3]
    # The last group of a sweep is assigned against the labels that the others end up with.
    after = improve(graph, edges, allocation, start, sweeps=1)
    members = graph.groups[2].channels
    best = 0.0
    for labels in set(permutations(after.labels[members].tolist())):
        tried = Layout(after.labels.copy(), after.clusters)
        tried.labels[members] = labels
        best = max(best, kept_literally(graph, tried, edges))
    assert objective(graph, after, edges) == pytest.approx(best, abs=1e-12)


def test_an_edge_from_a_group_to_itself_may_not_make_it_worse() -> None:
    graph = residual()
    values = []
    for seed in range(20):
        found = problem(graph, 3, 0.5, seed)
        assert found is not None
        edges, allocation, start = found
        end = improve(graph, edges, allocation, start, sweeps=10)
        values.append((objective(graph, start, edges), objective(graph, end, edges)))
    assert all(after >= before for before, after in values)
    assert any(after > before + 0.1 for before, after in values)


def test_random_labels_keep_the_most_important_channels() -> None:
    graph = chain([3, 8, 3])
    edges = importances(graph, 0)
    allocation = allocate(graph, 1, 0.5)
    assert allocation.widths.tolist() == [3, 4, 3]
    layout = random_labels(graph, edges, allocation, np.random.default_rng(0))
    scores = edges[0].importance.sum(axis=1) + edges[1].importance.sum(axis=0)
    kept = np.flatnonzero(layout.labels[graph.groups[1].channels] == 0)
    assert sorted(kept) == sorted(np.argsort(-scores)[:4])


@pytest.mark.parametrize("clusters", [2, 4])
@pytest.mark.parametrize("seed", range(3))
def test_planted_clusters_are_found(clusters: int, seed: int) -> None:
    """Blocks of strong connections, hidden by a permutation of each layer's channels."""
    rng = np.random.default_rng(seed)
    graph = chain([4, 16, 16, 16, 3])
    hidden = {g: rng.permutation(np.repeat(np.arange(clusters), 16 // clusters)) for g in (1, 2, 3)}
    scores = {
        e.name: rng.uniform(0.0, 0.05, (len(e.out_channels), len(e.in_channels)))
        for e in graph.edges
    }
    for name, a, b in (("e1", 1, 2), ("e2", 2, 3)):
        scores[name][hidden[b][:, None] == hidden[a][None, :]] += 1.0
    edges = channel_edges(graph, scores)
    # All channels stay: only the split shrinks the model.
    dense = graph.weights
    whole = 16 * 4 + 2 * 256 // clusters + 16 * 3
    allocation = allocate(graph, clusters, 1 - whole / dense)
    assert allocation.widths.tolist() == [4, 16, 16, 16, 3]
    layout = cluster(graph, edges, allocation, seed)
    pairs = [
        {*zip(layout.labels[graph.groups[g].channels], hidden[g], strict=True)} for g in (1, 2, 3)
    ]
    # One to one, and the same renaming in all three layers.
    assert pairs[0] == pairs[1] == pairs[2]
    assert len(pairs[0]) == clusters


def test_the_same_seed_gives_the_same_labels() -> None:
    graph = residual()
    edges, allocation = importances(graph, 5), allocate(residual(), 3, 0.5)
    first, second = (cluster(graph, edges, allocation, seed=7) for _ in range(2))
    np.testing.assert_array_equal(first.labels, second.labels)
    check_layout(graph, first, allocation)


def test_more_starts_are_never_worse() -> None:
    graph = chain([3, 12, 12, 3])
    edges, allocation = importances(graph, 3), allocate(graph, 3, 0.4)
    values = [
        objective(graph, cluster(graph, edges, allocation, 0, ClusterSearch(starts=n)), edges)
        for n in (1, 2, 4, 8)
    ]
    assert values == sorted(values)
    assert values[-1] > values[0]


def test_log_kept_of_a_whole_model_is_zero_and_falls_with_what_goes() -> None:
    graph = chain([3, 8, 8, 3])
    edges = importances(graph, 0)
    assert log_kept(graph, dense_layout(graph), edges) == pytest.approx(0.0, abs=1e-12)
    layouts = [cluster(graph, edges, allocate(graph, 2, ratio), 0) for ratio in (0.3, 0.7)]
    a, b = (log_kept(graph, layout, edges) for layout in layouts)
    assert 0 > a > b
    shares = [e.importance[layouts[0].edge_mask(graph, e.edge)].sum() for e in edges]
    assert a == pytest.approx(np.log(shares).sum(), abs=1e-12)
