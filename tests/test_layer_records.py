"""What a report says of each layer, and what modules.json says of each module."""

import json
from dataclasses import replace

import numpy as np
from layout_example import GRAPH, LAYOUT, SHARING

from crespr_onnx.layout import ChannelGraph, dense_layout
from crespr_onnx.stages.deliver import describe_modules
from crespr_onnx.stages.measure import layer_records


def test_layers_say_how_many_inputs_their_clusters_read() -> None:
    found = {r.name: (r.clusters, r.form, r.reason) for r in layer_records(GRAPH, SHARING, {})}
    whole = "reads all inputs that are kept: shrunk only"
    assert found == {
        "first": (1, "dense", "has fewer than 4 inputs: shrunk only"),
        "inner": (2, "grouped", "2 clusters, each reads 1 of 4 inputs"),
        "both": (1, "dense", whole),
        "stiff": (1, "dense", "is already grouped"),
        "last": (1, "dense", "one cluster, which reads 4 of 8 inputs"),
    }


def test_separate_clusters_are_named_so() -> None:
    (_, inner, *_) = layer_records(GRAPH, LAYOUT, {"inner": "separate"})
    assert (inner.form, inner.clusters) == ("separate", 2)
    assert inner.weights_after == LAYOUT.stored_weights(GRAPH, GRAPH.edges[1])


def test_reasons_of_forms_are_added() -> None:
    (_, inner, *_) = layer_records(GRAPH, SHARING, {"inner": "grouped"}, {"inner": "why not"})
    assert inner.reason == "2 clusters, each reads 1 of 4 inputs; why not"


def test_merged_clusters_store_their_zeros() -> None:
    (_, inner, *_) = layer_records(GRAPH, SHARING, {"inner": "dense"})
    assert (inner.form, inner.clusters) == ("dense", 2)
    # Two of four inputs are kept, all four outputs, and the kernel has nine weights.
    assert inner.weights_after == 2 * 4 * 9


def test_products_of_clusters_are_batched() -> None:
    product = replace(GRAPH.edges[1], op="Gemm")
    graph = replace(GRAPH, edges=(product,))
    assert [r.form for r in layer_records(graph, SHARING, {"inner": "grouped"})] == ["batched"]


def test_a_selection_that_reads_all_that_is_kept_is_none() -> None:
    every = replace(LAYOUT, selections={"inner": np.ones((4, 2), np.bool_)})
    inner = layer_records(GRAPH, every, {})[1]
    assert (inner.clusters, inner.form) == (1, "dense")
    assert inner.reason == "reads all inputs that are kept: shrunk only"


def test_a_layer_of_which_nothing_goes_stays_as_it_is() -> None:
    inner = layer_records(GRAPH, dense_layout(GRAPH), {})[1]
    assert inner.reason == "reads all inputs that are kept: stays as it is"


def test_shared_weights_are_named() -> None:
    inner = GRAPH.edges[1]
    twice = ChannelGraph(GRAPH.groups, (inner, replace(inner, name="again")), {}, {}, {})
    reasons = {r.reason for r in layer_records(twice, dense_layout(twice), {})}
    assert reasons == {"shares its weights with another layer: stays as it is"}


def test_modules_have_channels_and_inputs() -> None:
    assert json.loads(describe_modules(GRAPH, SHARING)) == {
        "modules": [
            {"module": 0, "channels": {"a": [0], "b": [1, 3]}, "reads": {"inner": [0]}},
            {"module": 1, "channels": {"a": [1], "b": [0, 2]}, "reads": {"inner": [0, 1]}},
        ],
        "shared": {"reads": {"last": [0, 2, 4, 6]}},
        "dropped": {"a": [2, 3]},
    }
