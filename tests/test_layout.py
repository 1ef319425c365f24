"""Layouts: labels, masks, counts, and their way through JSON."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crespr_onnx.layout import (
    DROPPED,
    ChannelGraph,
    ChannelGroup,
    Layout,
    WeightedEdge,
    dense_layout,
    layout_from_json,
)


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def edge(
    name: str, inputs: np.ndarray, outputs: np.ndarray, kernel: int = 1, frozen: str | None = None
) -> WeightedEdge:
    return WeightedEdge(name, "Conv", name, 1, 0, inputs, outputs, kernel, 1, frozen)


X, A, B, Y = ints(0, 1), ints(2, 3, 4, 5), ints(6, 7, 8, 9), ints(10, 11, 12)
GRAPH = ChannelGraph(
    groups=(
        ChannelGroup("x", X, "'x' is a graph input"),
        ChannelGroup("a", A, None),
        ChannelGroup("b", B, None),
        ChannelGroup("y", Y, "'y' is a graph output"),
    ),
    edges=(
        edge("first", X, A),
        edge("inner", A, B, kernel=9),
        edge("both", np.concatenate([A, B]), B),
        edge("stiff", A, B, frozen="is already grouped"),
        edge("last", np.repeat(B, 2), Y),
    ),
    values={},
    constants={},
    moves={},
    opaque_weights=7,
)
#                       x     a            b               y
LAYOUT = Layout(ints(0, 0, 0, 1, -1, -1, 1, 0, 1, 0, 0, 0, 0), ints(1, 2, 2, 1))


def test_the_graph_knows_its_groups():
    assert GRAPH.n_channels == 13
    assert GRAPH.group_of.tolist() == [0] * 2 + [1] * 4 + [2] * 4 + [3] * 3
    assert GRAPH.groups_on(ints(9, 2, 3)) == [1, 2]
    assert GRAPH.weights == 7 + 8 + 16 * 9 + 32 + 16 + 24


def test_channels_are_frozen_if_all_their_groups_are():
    assert GRAPH.is_frozen(np.concatenate([X, Y]))
    assert not GRAPH.is_frozen(np.concatenate([X, A]))


def test_ids_that_are_not_in_use_are_in_no_group():
    graph = ChannelGraph((ChannelGroup("a", ints(1, 3), None),), (), {}, {}, {})
    assert graph.group_of.tolist() == [-1, 0, -1, 0]


def test_kept():
    assert LAYOUT.kept(A).tolist() == [True, True, False, False]
    assert LAYOUT.kept(ints(5, 2, 5)).tolist() == [False, True, False]


def test_clusters_of_an_axis_are_those_that_its_groups_agree_on():
    assert LAYOUT.axis_clusters(GRAPH, A) == 2
    assert LAYOUT.axis_clusters(GRAPH, np.concatenate([A, B])) == 2
    assert LAYOUT.axis_clusters(GRAPH, np.concatenate([X, A])) == 1
    assert LAYOUT.axis_clusters(GRAPH, Y) == 1


def test_clusters_of_an_edge_are_those_of_both_its_sides():
    found = {e.name: LAYOUT.edge_clusters(GRAPH, e) for e in GRAPH.edges}
    assert found == {"first": 1, "inner": 2, "both": 2, "stiff": 1, "last": 1}


def test_different_counts_on_both_sides_leave_an_edge_whole():
    layout = Layout(ints(0, 0, 0, 1, 2, 3, 1, 0, 1, 0, 0, 0, 0), ints(1, 4, 2, 1))
    assert layout.edge_clusters(GRAPH, GRAPH.edges[1]) == 1
    assert layout.edge_mask(GRAPH, GRAPH.edges[1]).all()


def test_masks():
    masks = {e.name: LAYOUT.edge_mask(GRAPH, e).astype(int).tolist() for e in GRAPH.edges}
    assert masks["first"] == [[1, 1], [1, 1], [0, 0], [0, 0]]
    assert masks["inner"] == [[0, 1, 0, 0], [1, 0, 0, 0]] * 2
    assert masks["both"] == [[0, 1, 0, 0, 1, 0, 1, 0], [1, 0, 0, 0, 0, 1, 0, 1]] * 2
    assert masks["stiff"] == [[1, 1, 0, 0]] * 4
    assert masks["last"] == [[1] * 8] * 3


def test_the_physical_ratio_counts_what_is_stored():
    stored = {e.name: LAYOUT.stored_weights(GRAPH, e) for e in GRAPH.edges}
    assert stored == {"first": 4, "inner": 4 * 9, "both": 12, "stiff": 8, "last": 24}
    assert LAYOUT.physical_ratio(GRAPH) == pytest.approx(1 - (7 + 84) / 231)


def test_a_weight_that_two_edges_share_is_stored_once():
    twice = (edge("w", X, A), edge("w", X, A))
    graph = ChannelGraph(GRAPH.groups, twice, {}, {}, {})
    assert graph.weights == 8
    assert LAYOUT.physical_ratio(graph) == pytest.approx(0.5)


def test_the_dense_layout_changes_nothing():
    layout = dense_layout(GRAPH)
    assert layout.clusters.tolist() == [1, 1, 1, 1]
    assert layout.physical_ratio(GRAPH) == 0
    assert all(layout.edge_mask(GRAPH, e).all() for e in GRAPH.edges)


# ---- JSON


def test_json_names_the_free_groups():
    assert json.loads(LAYOUT.to_json(GRAPH)) == {
        "a": {"clusters": 2, "sizes": [1, 1], "labels": [0, 1, -1, -1]},
        "b": {"clusters": 2, "sizes": [2, 2], "labels": [1, 0, 1, 0]},
    }


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.data())
def test_json_gives_the_layout_back(data: st.DataObject):
    counts = [data.draw(st.integers(1, 4)) for _ in range(2)]
    labels = [
        data.draw(st.lists(st.integers(DROPPED, k - 1), min_size=4, max_size=4)) for k in counts
    ]
    layout = Layout(ints(0, 0, *labels[0], *labels[1], 0, 0, 0), ints(1, *counts, 1))
    found = layout_from_json(layout.to_json(GRAPH), GRAPH)
    assert found.labels.tolist() == layout.labels.tolist()
    assert found.clusters.tolist() == layout.clusters.tolist()


def changed(**entries: object) -> str:
    """The layout's JSON with entries of group `a` changed."""
    known = json.loads(LAYOUT.to_json(GRAPH))
    known["a"] |= entries
    return json.dumps(known)


NOT_OF_THIS_MODEL = "the layout is not one of this model, which has 2 free groups"
UNKNOWN = "the layout does not know group 'a' of this model"
BAD_LABELS = "labels of group 'a' must lie between -1 and 1, its last cluster"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", NOT_OF_THIS_MODEL),
        ("[1, 2]", NOT_OF_THIS_MODEL),
        (LAYOUT.to_json(GRAPH).replace('"a"', '"c"'), UNKNOWN),
        (changed(labels=[0, 1, 0]), UNKNOWN),
        (changed(labels=[0, 1, 2, 0]), BAD_LABELS),
        (changed(labels=[0, 1, -2, 0]), BAD_LABELS),
        ("{", "Expecting property name"),
        # Damaged in ways that the writer never writes.
        ('{"a": 1, "b": 2}', UNKNOWN),
        ('{"a": {}, "b": {}}', UNKNOWN),
        (changed(labels=5), UNKNOWN),
        (changed(clusters="2"), r"group 'a' must have from 1 to 4 clusters, not '2'"),
        (changed(clusters=0), "group 'a' must have from 1 to 4 clusters, not 0"),
        (changed(clusters=10**30), "group 'a' must have from 1 to 4 clusters, not 10000"),
        (changed(labels=[0, 1, "x", 0]), BAD_LABELS),
        (changed(labels=[0, 1, 0.5, 0]), BAD_LABELS),
    ],
)
def test_what_is_no_layout_of_the_model(text: str, message: str):
    with pytest.raises(ValueError, match=f"^{message}"):
        layout_from_json(text, GRAPH)
