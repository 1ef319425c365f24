"""The central promise: lowering a layout never changes what the masked model computes.

Random networks, random layouts with random selections: masked == dropped == permuted == split ==
finished, and what is stored in the end is what the layout says.
"""

from itertools import product

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from layout_links import FLAT, IMAGE, TOKENS
from layout_models import analysed, network, random_layout
from pass_helpers import assert_interface_kept, run

from crespr_onnx.graph.accounting import stored_weights
from crespr_onnx.layout import DROPPED, ChannelGraph, Layout
from crespr_onnx.passes.drop_channels import DropChannels
from crespr_onnx.passes.layer_forms import FORMS, split_layers
from crespr_onnx.passes.permute_channels import PermuteChannels
from crespr_onnx.passes.split_clusters import SplitClusters
from crespr_onnx.stages.lower import arrange, finish, fold, split
from crespr_onnx.stages.masking import masked_copy

KINDS = {"image": IMAGE, "flat": FLAT, "tokens": TOKENS}
NETWORKS = st.one_of(
    st.tuples(st.just(kind), st.lists(st.sampled_from(sorted(links)), max_size=7))
    for kind, links in KINDS.items()
)
LAYOUTS = st.tuples(st.integers(0, 999), st.sampled_from([None, 2, 4]))


def slow_count(graph: ChannelGraph, layout: Layout) -> int:
    """Weights stored under a layout, one connection after the other."""
    stored = {}
    for edge in graph.edges:
        selection = layout.selections.get(edge.name)
        kept = 0
        for o, (i, c) in product(edge.out_channels, enumerate(edge.in_channels)):
            cluster = layout.labels[o]
            if DROPPED not in (cluster, layout.labels[c]):
                kept += selection is None or bool(selection[i, cluster])
        stored[edge.weight] = kept * edge.kernel
    return graph.opaque_weights + sum(stored.values())


class Expected:
    """What the masked model is and computes."""

    def __init__(self, masked: ir.Model) -> None:
        self.proto = ir.to_proto(masked)
        self.outputs = {batch: run(self.proto, batch) for batch in (1, 3)}

    def check(self, model: ir.Model) -> None:
        after = ir.to_proto(model)
        onnx.checker.check_model(after, full_check=True)
        assert_interface_kept(self.proto, after)
        for batch, outputs in self.outputs.items():
            for expected, found in zip(outputs, run(after, batch), strict=True):
                np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@settings(max_examples=70, deadline=None, derandomize=True)
@given(NETWORKS, LAYOUTS)
@example(("image", ["conv4", "depthwise", "conv4"]), (0, 4))  # one channel for each cluster
@example(("image", ["conv4", "norm", "depthwise", "relu", "conv4"]), (5, 4))
# Channels move between a source and a result whose own order stays.
@example(("image", ["conv6", "conv6", "some", "conv6", "conv6", "conv4", "depthwise"]), (689, 2))
@example(("image", ["twice", "norm", "relu"]), (0, 2))
@example(("flat", ["twice", "relu", "gemm8"]), (0, 2))
@example(("image", ["shortcut", "relu", "shortcut", "norm"]), (0, 2))
def test_every_step_computes_what_the_masked_model_does(
    net: tuple[str, list[str]], choice: tuple[int, int | None]
):
    model, graph = analysed(network(*net))
    layout = random_layout(graph, *choice)
    masked = masked_copy(model, graph, layout)
    expected = Expected(masked)
    assert_interface_kept(ir.to_proto(model), expected.proto)

    step = masked.clone(deep_copy=True)
    drop = DropChannels(graph, layout)
    permute = PermuteChannels(drop.graph_after(), drop.layout_after())
    cut = SplitClusters(permute.graph_after(), permute.layout_after())
    for pass_ in (drop, permute, cut):
        pass_(step)
        expected.check(step)

    small = split(masked, graph, layout)
    expected.check(small)
    stored = slow_count(graph, layout)
    assert stored_weights(small) == stored
    assert layout.physical_ratio(graph) == pytest.approx(1 - stored / stored_weights(model))
    for form in ("grouped", "separate"):
        final = finish(small, form)
        expected.check(final)
        assert stored_weights(final) == stored
    merged = finish(small, "dense")
    expected.check(merged)
    assert stored_weights(merged) >= stored
    folded = fold(small)
    layers = split_layers(folded)
    mixed = arrange(folded, {name: FORMS[i % 3] for i, name in enumerate(layers)})
    expected.check(mixed)
    assert ir.to_proto(masked) == expected.proto, (
        "split and finish changed the model that they were given"
    )


@settings(max_examples=20, deadline=None, derandomize=True)
@given(NETWORKS, LAYOUTS)
def test_masks_are_those_of_the_definition(
    net: tuple[str, list[str]], choice: tuple[int, int | None]
):
    model, graph = analysed(network(*net))
    layout = random_layout(graph, *choice)
    masked = masked_copy(model, graph, layout)
    weights = {edge.weight for edge in graph.edges}
    zeros = 0
    for name, value in model.graph.initializers.items():
        before, after = (
            value.const_value.numpy(),
            masked.graph.initializers[name].const_value.numpy(),
        )
        changed = before != after
        assert (after[changed] == 0).all()
        assert name in weights or not changed.any()
        zeros += int(changed.sum())
    assert graph.weights - zeros == slow_count(graph, layout)
