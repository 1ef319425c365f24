"""Layouts: labels, selections, masks, and counts."""

from dataclasses import replace

import numpy as np
import pytest
from internal_selections import internal_selections
from layout_example import GRAPH, LAYOUT, PLAIN, SHARING, A, B, X, Y, edge, ints

from crespr_onnx.layout import (
    ChannelGraph,
    ChannelGroup,
    Layout,
    dense_layout,
)


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


def test_without_selections_nothing_is_split():
    assert {PLAIN.edge_clusters(GRAPH, e) for e in GRAPH.edges} == {1}
    assert PLAIN.stored_weights(GRAPH, GRAPH.edges[1]) == 2 * 4 * 9


def test_internal_selections_are_of_edges_with_as_many_clusters_on_both_sides():
    assert {name: s.astype(int).tolist() for name, s in LAYOUT.selections.items()} == {
        "inner": [[1, 0], [0, 1], [0, 0], [0, 0]],
        "both": [[1, 0], [0, 1], [0, 0], [0, 0], [0, 1], [1, 0], [0, 1], [1, 0]],
    }


def test_an_edge_has_the_clusters_of_its_outputs_if_they_select():
    found = {e.name: LAYOUT.edge_clusters(GRAPH, e) for e in GRAPH.edges}
    assert found == {"first": 1, "inner": 2, "both": 2, "stiff": 1, "last": 1}


def test_different_counts_on_both_sides_leave_no_internal_selection():
    layout = Layout(ints(0, 0, 0, 1, 2, 3, 1, 0, 1, 0, 0, 0, 0), ints(1, 4, 2, 1))
    layout = replace(layout, selections=internal_selections(GRAPH, layout))
    assert set(layout.selections) == set()
    assert layout.edge_clusters(GRAPH, GRAPH.edges[1]) == 1
    assert layout.edge_mask(GRAPH, GRAPH.edges[1]).all()


def test_masks():
    masks = {e.name: LAYOUT.edge_mask(GRAPH, e).astype(int).tolist() for e in GRAPH.edges}
    assert masks["first"] == [[1, 1], [1, 1], [0, 0], [0, 0]]
    assert masks["inner"] == [[0, 1, 0, 0], [1, 0, 0, 0]] * 2
    assert masks["both"] == [[0, 1, 0, 0, 1, 0, 1, 0], [1, 0, 0, 0, 0, 1, 0, 1]] * 2
    assert masks["stiff"] == [[1, 1, 0, 0]] * 4
    assert masks["last"] == [[1] * 8] * 3


def test_masks_of_clusters_that_share_inputs():
    masks = {e.name: SHARING.edge_mask(GRAPH, e).astype(int).tolist() for e in GRAPH.edges}
    # b is labelled 1, 0, 1, 0, and the third channel of a, which cluster 0 reads, is dropped.
    assert masks["inner"] == [[1, 1, 0, 0], [1, 0, 0, 0]] * 2
    assert masks["last"] == [[1, 0] * 4] * 3
    assert masks["both"] == [[1, 1, 0, 0, 1, 1, 1, 1]] * 4
    found = {e.name: SHARING.edge_clusters(GRAPH, e) for e in GRAPH.edges}
    assert found == {"first": 1, "inner": 2, "both": 1, "stiff": 1, "last": 1}
    stored = {e.name: SHARING.stored_weights(GRAPH, e) for e in GRAPH.edges}
    assert stored == {"first": 4, "inner": 6 * 9, "both": 24, "stiff": 8, "last": 12}


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
