"""Widths, reads and cluster counts: what they must keep, and what they must add up to."""

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from training_models import chain, channels, cnn, free_groups, importances, mlp, normal, parse

from crespr_onnx.errors import UsageError
from crespr_onnx.graph.accounting import stored_weights
from crespr_onnx.layout import ChannelAxis, ChannelGraph
from crespr_onnx.stages.lower import finish, split
from crespr_onnx.stages.masking import masked_copy
from crespr_onnx.training.allocate import (
    CONVOLVED_BLOCK,
    LINEAR_BLOCK,
    Allocation,
    allocate,
    edge_rooms,
    max_clusters,
)
from crespr_onnx.training.cluster import ClusterSearch, cluster
from crespr_onnx.training.knobs import FEWEST_INPUTS, Reading
from crespr_onnx.training.shrink import max_ratio

fixed = settings(derandomize=True, deadline=None, max_examples=60)

chains = st.builds(
    chain,
    st.lists(st.integers(2, 24), min_size=3, max_size=6),
    kernel=st.sampled_from([1, 9]),
    opaque=st.sampled_from([0, 50]),
)
counts = st.sampled_from([1, 2, 3, 4])
ratios = st.floats(0.02, 0.98)
FORMS = ("grouped", "separate")
BRIEF = ClusterSearch(starts=1, sweeps=1)

TIED = """g (float[N, 8] x) => (float[N, 3] y) {
    h = MatMul (x, w1)
    a = MatMul (h, shared)
    r = Relu (a)
    b = MatMul (r, shared)
    y = MatMul (b, w2)
}"""
RESIDUAL = """g (float[N, 8] x) => (float[N, 3] y) {
    h = MatMul (x, w1)
    r = Relu (h)
    b = MatMul (r, w2)
    s = Add (h, b)
    y = MatMul (s, w3)
}"""


def tied() -> ir.Model:
    """One weight in two layers."""
    return parse(TIED, w1=normal(0, 8, 16), shared=normal(1, 16, 16), w2=normal(2, 16, 3))


def residual() -> ir.Model:
    """One group with an edge to itself."""
    return parse(RESIDUAL, w1=normal(0, 8, 16), w2=normal(1, 16, 16), w3=normal(2, 16, 3))


def try_allocate(graph: ChannelGraph, clusters: int, ratio: float) -> Allocation | None:
    """None where the ratio is out of reach."""
    try:
        return allocate(graph, clusters, ratio)
    except UsageError:
        return None


def budget(graph: ChannelGraph, ratio: float) -> float:
    return (1 - ratio) * graph.weights + 1e-6


def stored(graph: ChannelGraph, found: Allocation) -> int:
    """Weights of a chain: outputs kept times inputs that each of them reads."""
    total = graph.opaque_weights
    for e, n_in, n_out in zip(graph.edges, found.widths, found.widths[1:], strict=False):
        total += int(n_out) * min(int(n_in), found.fan_in.get(e.name, int(n_in))) * e.kernel
    return total


@fixed
@given(chains, counts, ratios)
def test_weights_are_those_of_any_layout_with_these_widths(
    graph: ChannelGraph, clusters: int, ratio: float
) -> None:
    found = try_allocate(graph, clusters, ratio)
    assume(found is not None)
    layout = cluster(graph, importances(graph, 0), found, 1, BRIEF)
    counted = sum(int(layout.edge_mask(graph, e).sum()) * e.kernel for e in graph.edges)
    assert found.weights == counted + graph.opaque_weights == stored(graph, found)
    assert found.weights <= budget(graph, ratio)
    assert layout.physical_ratio(graph) >= ratio - 1e-9


@pytest.mark.parametrize("make", [mlp, cnn, lambda: cnn((16, 24)), tied, residual])
@pytest.mark.parametrize("ratio", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("clusters", [1, 2, 4])
def test_weights_are_those_of_the_small_model(
    make: Callable[[], ir.Model], ratio: float, clusters: int
) -> None:
    model = make()
    graph = channels(model)
    found = allocate(graph, clusters, ratio)
    layout = cluster(graph, importances(graph, 0), found, 0, BRIEF)
    small = split(masked_copy(model, graph, layout), graph, layout)
    counts = [stored_weights(m) for m in (small, *(finish(small, f) for f in FORMS))]
    assert counts == [found.weights] * 3
    assert layout.physical_ratio(graph) == pytest.approx(1 - found.weights / stored_weights(model))
    assert found.weights <= budget(graph, ratio)


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
            assert 1 <= k <= clusters
            assert width % k == 0
            assert 1 <= width <= len(group.channels)
            assert k == 1 or width >= LINEAR_BLOCK * k


@fixed
@given(chains, counts, ratios)
def test_clusters_read_less_than_all_that_is_kept(
    graph: ChannelGraph, clusters: int, ratio: float
) -> None:
    found = try_allocate(graph, clusters, ratio)
    assume(found is not None)
    assert found.fan_in.keys() <= {e.name for e in graph.edges}
    for e, there in zip(graph.edges, found.widths, strict=False):
        reads = found.fan_in.get(e.name)
        if reads is not None:
            assert 1 <= reads < there
            assert len(e.in_channels) >= FEWEST_INPUTS


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
    most = int((1 - ratio) * graph.weights + 1e-9)
    for g in free_groups(graph):
        k, width = int(found.clusters[g]), int(found.widths[g])
        if width + k <= len(graph.groups[g].channels):
            widths = found.widths.copy()
            widths[g] += k
            assert stored(graph, replace(found, widths=widths)) > most
    for name, reads in found.fan_in.items():
        more = {**found.fan_in, name: reads + 1}
        assert stored(graph, replace(found, fan_in=more)) > most


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
    # Least: 1 channel in both groups that reads 1 input, 1 + 1 + 2 of 10*8 + 8*8 + 8*2 weights.
    message = (
        "^ratio 0.976 is out of reach: at most 0.9750 of the weights of this model can go; "
        "lower --ratio$"
    )
    with pytest.raises(UsageError, match=message):
        allocate(chain([10, 8, 8, 2]), 4, 0.976)
    assert allocate(chain([10, 8, 8, 2]), 4, 0.975).weights == 4


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
    graph = chain([4, 32, 5, 32, 4])
    apart = allocate(graph, 4, 0.3)
    assert apart.clusters.tolist() == [1, 4, 1, 4, 1]
    # A Concat of the second and the third group, of which the third has no room for 4 clusters.
    both = np.concatenate([graph.groups[1].channels, graph.groups[2].channels])
    joined = allocate(replace(graph, values={"concat": ChannelAxis(1, both)}), 4, 0.3)
    assert joined.clusters.tolist() == [1, 1, 1, 4, 1]


def test_tied_weights_are_stored_once_and_read_whole() -> None:
    graph = channels(tied())
    assert [e.weight for e in graph.edges] == ["w1", "shared", "shared", "w2"]
    assert graph.weights == 8 * 16 + 16 * 16 + 16 * 3
    (group,) = free_groups(graph)
    found = allocate(graph, 2, 0.9)
    width = int(found.widths[group])
    reads = {name: found.fan_in.get(name, n) for name, n in (("matmul_0", 8), ("matmul_4", width))}
    assert found.fan_in.keys() <= reads.keys()
    assert found.weights == reads["matmul_0"] * width + width**2 + reads["matmul_4"] * 3
    assert found.fan_in, "what is not tied is read in part"


def test_opaque_weights_stay_stored() -> None:
    plain, opaque = chain([4, 8, 3]), chain([4, 8, 3], opaque=56)
    assert opaque.weights == 112
    assert max_ratio(plain) == pytest.approx(1 - 4 / 56)
    assert max_ratio(opaque) == pytest.approx(1 - 60 / 112)
    assert 56 + 4 <= allocate(opaque, 1, 0.45).weights <= int(0.55 * 112)


@pytest.mark.parametrize(("op", "block"), [("Gemm", LINEAR_BLOCK), ("Conv", CONVOLVED_BLOCK)])
def test_clusters_have_no_fewer_channels_than_a_block(op: str, block: int) -> None:
    graph = chain([4, 8 * block, 4 * block, 4], op=op)
    assert max_clusters(graph) == 8
    assert edge_rooms(graph) == [8, 4, 1]
    found = allocate(graph, 8, 0.3)
    assert found.clusters.max() > 1
    assert (found.widths[1:3] >= block * found.clusters[1:3]).all()


def test_a_narrow_input_leaves_nothing_to_select() -> None:
    assert edge_rooms(chain([FEWEST_INPUTS - 1, 32, 4])) == [1, 1]
    assert edge_rooms(chain([FEWEST_INPUTS, 32, 4])) == [32 // LINEAR_BLOCK, 1]


def test_dearer_reading_leaves_more_read() -> None:
    graph = chain([64, 64, 64, 10])
    less, more = (allocate(graph, 4, 0.9, Reading(price)) for price in (0.75, 1.5))
    shares = [
        np.mean(
            [a.fan_in.get(e.name, a.widths[i]) / a.widths[i] for i, e in enumerate(graph.edges)]
        )
        for a in (less, more)
    ]
    assert shares[0] < shares[1]
    assert less.widths.sum() > more.widths.sum()


def test_a_flattened_axis_counts_every_position() -> None:
    graph = channels(cnn((4, 6)))
    assert graph.weights == 4 * 9 + 6 * 4 * 9 + 54 * 3
    found = allocate(graph, 1, 0.5)
    one, two = (int(found.widths[g]) for g in free_groups(graph))
    reads = found.fan_in.get("conv_3", one), found.fan_in.get("matmul_6", two * 9)
    assert found.weights == one * 9 + two * reads[0] * 9 + reads[1] * 3
    assert reads[1] > len(graph.groups), "positions are read, not channels"


def test_residual_sums_share_one_width() -> None:
    graph = channels(residual())
    (group,) = free_groups(graph)
    found = allocate(graph, 2, 0.6)
    width = int(found.widths[group])
    reads = [
        found.fan_in.get(name, n)
        for name, n in (("matmul_0", 8), ("matmul_2", width), ("matmul_4", width))
    ]
    assert found.weights == reads[0] * width + reads[1] * width + reads[2] * 3


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
