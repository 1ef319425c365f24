"""Budgets of multiply-accumulates: kept beside that of weights, and at the least price."""

import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from training_models import chain, channels, cnn, importances, mlp, normal, parse

from crespr_onnx.errors import UsageError
from crespr_onnx.graph.accounting import node_costs, with_macs
from crespr_onnx.layout import ChannelGraph
from crespr_onnx.stages.lower import finish, split
from crespr_onnx.stages.masking import masked_copy
from crespr_onnx.training.allocate import READINGS, Allocation, allocate
from crespr_onnx.training.cluster import ClusterSearch, cluster
from crespr_onnx.training.knobs import Reading
from crespr_onnx.training.shrink import max_mac_ratio, shrink, turned_down

fixed = settings(derandomize=True, deadline=None, max_examples=60)
BRIEF = ClusterSearch(starts=1, sweeps=1)


def counted(sizes: list[int], uses: list[int], kernel: int = 1, opaque: int = 0) -> ChannelGraph:
    """A chain whose weights are used as often as is said, layer by layer, from the first on."""
    graph = chain(sizes, kernel=kernel, opaque=opaque)
    edges = zip(graph.edges, uses, strict=False)
    with_work = tuple(replace(edge, macs=use * edge.weights) for edge, use in edges)
    return replace(graph, edges=with_work, opaque_macs=3 * opaque)


chains = st.builds(
    counted,
    st.lists(st.integers(2, 24), min_size=3, max_size=6),
    st.lists(st.sampled_from([1, 4, 64, 1024]), min_size=5, max_size=5),
    kernel=st.sampled_from([1, 9]),
    opaque=st.sampled_from([0, 50]),
)
counts = st.sampled_from([1, 2, 3, 4])
ratios = st.floats(0.02, 0.98)
VGG = counted([8, 32, 64, 64, 128, 10], [1024, 1024, 256, 16, 1])


def work(graph: ChannelGraph, found: Allocation) -> int:
    """Multiply-accumulates of a chain."""
    total = graph.opaque_macs or 0
    for e, n_in, n_out in zip(graph.edges, found.widths, found.widths[1:], strict=False):
        assert e.macs is not None
        uses = e.macs // e.weights
        reads = min(int(n_in), found.fan_in.get(e.name, int(n_in)))
        total += int(n_out) * reads * e.kernel * uses
    return total


def limit(graph: ChannelGraph, mac_ratio: float) -> float:
    assert graph.macs is not None
    return (1 - mac_ratio) * graph.macs + 1e-6


@fixed
@given(chains, counts, ratios, ratios, st.sampled_from(READINGS))
def test_both_budgets_hold(
    graph: ChannelGraph, clusters: int, ratio: float, mac_ratio: float, reading: Reading
) -> None:
    try:
        found = allocate(graph, clusters, ratio, reading, mac_ratio)
    except UsageError:
        assume(False)
    assert found.weights <= (1 - ratio) * graph.weights + 1e-6
    assert work(graph, found) <= limit(graph, mac_ratio)


@fixed
@given(chains, counts, ratios)
def test_without_it_multiply_accumulates_do_not_matter(
    graph: ChannelGraph, clusters: int, ratio: float
) -> None:
    unknown = replace(
        graph, edges=tuple(replace(e, macs=None) for e in graph.edges), opaque_macs=None
    )
    try:
        plain = allocate(unknown, clusters, ratio)
    except UsageError:
        assume(False)
    assert allocate(graph, clusters, ratio).sizes == plain.sizes
    # What the weights alone bring about need not be asked for.
    done = shrink(graph, ratio, READINGS[0])
    assert graph.macs is not None
    reached = 1 - done.knobs.macs(done.values) / graph.macs
    asked = shrink(graph, ratio, READINGS[0], max(reached - 1e-9, 1e-9))
    assert asked.mac_price == 0
    assert np.array_equal(asked.values, done.values)


def test_allocations_by_weights_alone() -> None:
    """What allocation gave before it knew of multiply-accumulates."""
    found = [allocate(VGG, 4, ratio, reading) for ratio in (0.5, 0.9) for reading in READINGS]
    assert [(a.widths.tolist(), list(a.fan_in.values()), a.weights) for a in found] == [
        ([8, 32, 64, 64, 84, 10], [30, 36, 31], 7924),
        ([8, 32, 52, 40, 76, 10], [], 7800),
        ([8, 32, 52, 40, 76, 10], [], 7800),
        ([8, 32, 32, 32, 28, 10], [7, 10, 12, 13], 1572),
        ([8, 32, 20, 16, 24, 10], [19], 1580),
        ([8, 32, 20, 16, 24, 10], [19], 1580),
    ]


@fixed
@given(chains, counts, ratios, ratios)
def test_nothing_fits_into_what_is_left_over(
    graph: ChannelGraph, clusters: int, ratio: float, mac_ratio: float
) -> None:
    try:
        found = allocate(graph, clusters, ratio, mac_ratio=mac_ratio)
    except UsageError:
        assume(False)
    assert graph.macs is not None
    weights_left = int((1 - ratio) * graph.weights + 1e-9) - found.weights
    macs_left = int((1 - mac_ratio) * graph.macs + 1e-9) - work(graph, found)
    for e, n_out in zip(graph.edges, found.widths[1:], strict=True):
        if e.name in found.fan_in:
            more = int(n_out) * e.kernel
            assert e.macs is not None
            assert more > weights_left or more * e.macs // e.weights > macs_left


def test_work_falls_steadily_with_its_ratio() -> None:
    found = [allocate(VGG, 2, 0.6, mac_ratio=m) for m in np.linspace(0.3, 0.98, 35)]
    done = [work(VGG, a) for a in found]
    assert all(low >= high for low, high in pairwise(done))
    assert len(set(done)) > 15
    assert all(a.weights <= 0.4 * VGG.weights for a in found)


def test_it_is_the_layers_with_most_work_that_give() -> None:
    plain, less = allocate(VGG, 1, 0.9), allocate(VGG, 1, 0.9, mac_ratio=0.97)
    assert work(VGG, plain) > 2 * work(VGG, less)
    assert (less.widths[1:4] < plain.widths[1:4]).all()
    assert less.widths[4] > plain.widths[4]
    # Both budgets are spent, to within a channel: neither pays for the other.
    assert less.weights > 0.095 * VGG.weights
    assert work(VGG, less) > 0.028 * (VGG.macs or 0)


@pytest.mark.parametrize("mac_ratio", [0.85, 0.9, 0.95, 0.97])
def test_the_price_is_near_the_least(mac_ratio: float) -> None:
    """No fixed multiplier that meets both budgets is cheaper by more than a step of the knobs."""
    found = shrink(VGG, 0.9, READINGS[0], mac_ratio)
    knobs = found.knobs
    dense = knobs.sizes

    def cost(values: np.ndarray) -> float:
        """What turning the knobs down cost, from the dense model on."""
        return sum(knobs.rise(dense, k, int(dense[k] - values[k])) for k in range(len(dense)))

    for price in (0.0, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 100.0):
        other = turned_down(knobs, found.budget, price)
        assert knobs.total(other) <= found.budget.weights
        assert knobs.macs(other) <= found.budget.macs
        assert cost(found.values) <= 1.01 * cost(other)


@pytest.mark.parametrize("clusters", [1, 2, 4])
@pytest.mark.parametrize("mac_ratio", [0.5, 0.8, 0.95])
def test_work_is_that_of_the_small_model(clusters: int, mac_ratio: float) -> None:
    for model in (cnn((16, 24)), mlp((16, 24)), tied()):
        graph = with_macs(channels(model), node_costs(model))
        found = allocate(graph, clusters, 0.3, mac_ratio=mac_ratio)
        layout = cluster(graph, importances(graph, 0), found, 0, BRIEF)
        small = split(masked_copy(model, graph, layout), graph, layout)
        expected = sum(
            layout.stored_weights(graph, e) * (e.macs or 0) // e.weights for e in graph.edges
        )
        for form in ("grouped", "separate"):
            done = sum(c.macs or 0 for c in node_costs(finish(small, form)) if c.counts)
            assert done == expected <= limit(graph, mac_ratio)


def tied() -> ir.Model:
    """One weight in two layers, which both work with it."""
    text = """g (float[N, 8] x) => (float[N, 3] y) {
        h = MatMul (x, w1)
        a = MatMul (h, shared)
        r = Relu (a)
        b = MatMul (r, shared)
        y = MatMul (b, w2)
    }"""
    return parse(text, w1=normal(0, 8, 16), shared=normal(1, 16, 16), w2=normal(2, 16, 3))


def test_the_message_beyond_reach() -> None:
    # Least: 1 channel in both groups that reads 1 input: 100 + 10 + 2 of 8000 + 640 + 16.
    graph = counted([10, 8, 8, 2], [100, 10, 1])
    message = (
        "^mac ratio 0.988 is out of reach: at most 0.9870 of the multiply-accumulates of this "
        "model can go; lower --mac-ratio$"
    )
    with pytest.raises(UsageError, match=message):
        allocate(graph, 4, 0.5, mac_ratio=0.988)
    assert work(graph, allocate(graph, 4, 0.5, mac_ratio=0.987)) == 112


@fixed
@given(chains, counts)
def test_the_reach_in_the_message_can_be_reached(graph: ChannelGraph, clusters: int) -> None:
    with pytest.raises(UsageError, match="mac ratio") as refused:
        allocate(graph, clusters, 1e-3, mac_ratio=1 - 1e-9)
    found = re.search(r"at most ([\d.]+) of the multiply", str(refused.value))
    assert found
    reach = float(found[1])
    assert reach <= max_mac_ratio(graph)
    if reach > 0:
        small = allocate(graph, clusters, 1e-3, mac_ratio=reach)
        assert work(graph, small) <= limit(graph, reach)


def test_work_that_was_not_counted_cannot_be_limited() -> None:
    graph = chain([8, 16, 16, 4])
    with pytest.raises(ValueError, match="multiply-accumulates of this graph are not known"):
        allocate(graph, 1, 0.5, mac_ratio=0.5)
    with pytest.raises(ValueError, match="see with_macs"):
        max_mac_ratio(graph)
