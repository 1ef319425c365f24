"""Widths and cluster counts: what they must keep, and what they must add up to."""

import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from training_models import chain, channels, cnn, free_groups, importances, normal, parse

from crespr_onnx.errors import UsageError
from crespr_onnx.layout import ChannelAxis, ChannelGraph
from crespr_onnx.training.allocate import Allocation, allocate, edge_rooms, max_clusters, max_ratio
from crespr_onnx.training.cluster import random_labels

fixed = settings(derandomize=True, deadline=None, max_examples=60)

chains = st.builds(
    chain,
    st.lists(st.integers(2, 24), min_size=3, max_size=6),
    kernel=st.sampled_from([1, 9]),
    opaque=st.sampled_from([0, 50]),
)
counts = st.sampled_from([1, 2, 3, 4])
ratios = st.floats(0.02, 0.98)


def try_allocate(graph: ChannelGraph, clusters: int, ratio: float) -> Allocation | None:
    """None where the ratio is out of reach."""
    try:
        return allocate(graph, clusters, ratio)
    except UsageError:
        return None


def budget(graph: ChannelGraph, ratio: float) -> float:
    return (1 - ratio) * graph.weights + 1e-6


@fixed
@given(chains, counts, ratios)
def test_weights_are_those_of_any_layout_with_these_widths(
    graph: ChannelGraph, clusters: int, ratio: float
) -> None:
    found = try_allocate(graph, clusters, ratio)
    assume(found is not None)
    layout = random_labels(graph, importances(graph, 0), found, np.random.default_rng(1))
    counted = sum(int(layout.edge_mask(graph, e).sum()) * e.kernel for e in graph.edges)
    assert found.weights == counted + graph.opaque_weights
    assert found.weights <= budget(graph, ratio)
    assert layout.physical_ratio(graph) >= ratio - 1e-9


@fixed
@given(chains, counts, ratios)
def test_widths_are_multiples_of_k_and_frozen_groups_stay(
    graph: ChannelGraph, clusters: int, ratio: float
) -> None:
    found = try_allocate(graph, clusters, ratio)
    assume(found is not None)
    for group, k, width in zip(graph.groups, found.clusters, found.widths, strict=True):
        if group.frozen is not None:
            assert (k, width) == (1, len(group.channels))
        else:
            assert k in (1, clusters)
            assert width % k == 0
            assert k <= width <= len(group.channels)


@fixed
@given(chains, counts, ratios, ratios)
def test_a_higher_ratio_never_keeps_more(
    graph: ChannelGraph, clusters: int, a: float, b: float
) -> None:
    low, high = (try_allocate(graph, clusters, ratio) for ratio in sorted((a, b)))
    if low is None:
        assert high is None
    elif high is not None:
        assert high.weights <= low.weights


@fixed
@given(chains, counts, ratios)
def test_nothing_fits_into_what_is_left_over(
    graph: ChannelGraph, clusters: int, ratio: float
) -> None:
    found = try_allocate(graph, clusters, ratio)
    assume(found is not None)
    for g in free_groups(graph):
        k, width = int(found.clusters[g]), int(found.widths[g])
        if width + k <= len(graph.groups[g].channels):
            widths = found.widths.copy()
            widths[g] += k
            more = replace(found, widths=widths)
            layout = random_labels(graph, importances(graph, 0), more, np.random.default_rng(1))
            stored = sum(layout.stored_weights(graph, e) for e in graph.edges)
            assert stored + graph.opaque_weights > int((1 - ratio) * graph.weights)


@fixed
@given(chains)
def test_max_ratio_is_reachable_and_no_more(graph: ChannelGraph) -> None:
    reach = max_ratio(graph)
    smallest = allocate(graph, 1, reach - 1e-9)
    assert [int(smallest.widths[g]) for g in free_groups(graph)] == [1] * len(free_groups(graph))
    assert smallest.weights == round((1 - reach) * graph.weights)
    with pytest.raises(UsageError, match="out of reach"):
        allocate(graph, 1, reach + 0.6 / graph.weights)


def test_the_message_beyond_reach() -> None:
    # Least: 4 channels in both groups, 10*4 + 4*4/4 + 4*2 = 52 of 10*8 + 8*8 + 8*2 = 160 weights.
    message = (
        "^ratio 0.9 is out of reach with 4 clusters: at most 0.6750 of the weights of this model "
        "can go; lower --ratio or --clusters$"
    )
    with pytest.raises(UsageError, match=message):
        allocate(chain([10, 8, 8, 2]), 4, 0.9)
    assert allocate(chain([10, 8, 8, 2]), 4, 0.675).weights == 52


@fixed
@given(chains, counts)
def test_the_reach_in_the_message_can_be_reached(graph: ChannelGraph, clusters: int) -> None:
    with pytest.raises(UsageError) as refused:
        allocate(graph, clusters, 1 - 1e-9)
    found = re.search(r"at most ([\d.]+) of the weights", str(refused.value))
    assert found
    reach = float(found[1])
    if reach > 0:
        assert allocate(graph, clusters, reach).weights <= budget(graph, reach)
    with pytest.raises(UsageError, match="out of reach"):
        allocate(graph, clusters, reach + 2e-4 + 1 / graph.weights)


def test_groups_on_one_axis_have_the_same_clusters() -> None:
    graph = chain([4, 16, 3, 16, 4])
    apart = allocate(graph, 4, 0.5)
    assert apart.clusters.tolist() == [1, 4, 1, 4, 1]
    # A Concat of the second and the third group, of which the third has no room for 4 clusters.
    both = np.concatenate([graph.groups[1].channels, graph.groups[2].channels])
    joined = allocate(replace(graph, values={"concat": ChannelAxis(1, both)}), 4, 0.5)
    assert joined.clusters.tolist() == [1, 1, 1, 4, 1]


def test_tied_weights_are_stored_once() -> None:
    text = """g (float[N, 8] x) => (float[N, 3] y) {
        h = MatMul (x, w1)
        a = MatMul (h, shared)
        r = Relu (a)
        b = MatMul (r, shared)
        y = MatMul (b, w2)
    }"""
    arrays = {"w1": normal(0, 8, 16), "shared": normal(1, 16, 16), "w2": normal(2, 16, 3)}
    graph = channels(parse(text, **arrays))
    assert [e.weight for e in graph.edges] == ["w1", "shared", "shared", "w2"]
    assert graph.weights == 8 * 16 + 16 * 16 + 16 * 3
    (group,) = free_groups(graph)
    found = allocate(graph, 2, 0.6)
    width = int(found.widths[group])
    assert found.weights == 8 * width + width * width // 2 + width * 3


def test_opaque_weights_stay_stored() -> None:
    plain, opaque = chain([4, 8, 3]), chain([4, 8, 3], opaque=56)
    assert opaque.weights == 112
    assert max_ratio(plain) == pytest.approx(1 - 7 / 56)
    assert max_ratio(opaque) == pytest.approx(1 - 63 / 112)
    assert allocate(opaque, 1, 0.4).weights == 56 + 7 * 1


def test_convolutions_keep_clusters_of_eight_channels() -> None:
    sizes = [4, 32, 16, 4]
    assert max_clusters(chain(sizes)) == 16
    assert edge_rooms(chain(sizes)) == [1, 16, 1]
    assert max_clusters(chain(sizes, op="Conv")) == 2
    assert allocate(chain(sizes, op="Conv"), 4, 0.3).clusters.tolist() == [1, 4, 1, 1]


def test_a_flattened_axis_counts_every_position() -> None:
    graph = channels(cnn((4, 6)))
    assert graph.weights == 4 * 9 + 6 * 4 * 9 + 54 * 3
    found = allocate(graph, 1, 0.5)
    one, two = (int(found.widths[g]) for g in free_groups(graph))
    assert found.weights == one * 9 + one * two * 9 + two * 9 * 3


def test_residual_sums_share_one_width() -> None:
    text = """g (float[N, 8] x) => (float[N, 3] y) {
        h = MatMul (x, w1)
        r = Relu (h)
        b = MatMul (r, w2)
        s = Add (h, b)
        y = MatMul (s, w3)
    }"""
    arrays = {"w1": normal(0, 8, 16), "w2": normal(1, 16, 16), "w3": normal(2, 16, 3)}
    graph = channels(parse(text, **arrays))
    (group,) = free_groups(graph)
    found = allocate(graph, 2, 0.6)
    width = int(found.widths[group])
    assert found.weights == 8 * width + width * width // 2 + width * 3


def test_widths_fall_steadily_with_the_ratio() -> None:
    graph = chain([16, 32, 32, 4])
    weights = [allocate(graph, 2, ratio).weights for ratio in np.linspace(0.3, 0.9, 25)]
    assert all(low >= high for low, high in pairwise(weights))
    assert len(set(weights)) > 15


def with_depthwise(graph: ChannelGraph) -> ChannelGraph:
    """The same with a depthwise convolution on its second group."""
    kernel = (ChannelAxis(0, graph.groups[1].channels),)
    return replace(graph, constants={"kernel": kernel}, depthwise=frozenset({"kernel"}))


@pytest.mark.parametrize("clusters", [1, 2])
@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.7, 0.9])
def test_depthwise_groups_keep_whole_vectors(clusters: int, ratio: float) -> None:
    graph = chain([8, 64, 64, 10])
    plain, found = (allocate(g, clusters, ratio) for g in (graph, with_depthwise(graph)))
    assert found.widths[1] % 4 == 0
    assert found.weights <= budget(graph, ratio)
    assert abs(int(found.widths[1]) - int(plain.widths[1])) <= 8


def test_depthwise_groups_may_be_narrower_than_a_vector() -> None:
    graph = with_depthwise(chain([8, 64, 64, 10]))
    assert allocate(graph, 1, max_ratio(graph)).widths[1] == 1
