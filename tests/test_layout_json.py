"""Layouts on their way through JSON, and what is refused on the way back."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from layout_example import GRAPH, LAYOUT, PLAIN, SHARING, ints

from crespr_onnx.layout import DROPPED, Layout
from crespr_onnx.layout_json import layout_from_json, layout_to_json, selections_to_json


def test_json_names_the_free_groups():
    assert json.loads(layout_to_json(GRAPH, LAYOUT)) == {
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
    selections = {
        e.name: data.draw(
            arrays(np.bool_, (len(e.in_channels), layout.axis_clusters(GRAPH, e.out_channels)))
        )
        for e in GRAPH.edges
        if data.draw(st.booleans())
    }
    layout = replace(layout, selections=selections)
    found = layout_from_json(GRAPH, layout_to_json(GRAPH, layout), selections_to_json(layout))
    assert found.labels.tolist() == layout.labels.tolist()
    assert found.clusters.tolist() == layout.clusters.tolist()
    assert {n: s.tolist() for n, s in found.selections.items()} == {
        n: s.tolist() for n, s in selections.items()
    }


def changed(**entries: object) -> str:
    """The layout's JSON with entries of group `a` changed."""
    known = json.loads(layout_to_json(GRAPH, LAYOUT))
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
        (layout_to_json(GRAPH, LAYOUT).replace('"a"', '"c"'), UNKNOWN),
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
        layout_from_json(GRAPH, text)


def test_json_lists_what_each_cluster_reads():
    assert selections_to_json(SHARING) == '{"inner":[[0,2],[0,1]],"last":[[0,2,4,6]]}'
    assert selections_to_json(PLAIN) == "{}"
    assert dict(layout_from_json(GRAPH, layout_to_json(GRAPH, PLAIN)).selections) == {}


INNER = "the selection of 'inner' must list input positions below 4 for each of 2 clusters"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "the selections are not of this model: they name layers that it lacks"),
        ('{"outer":[[0]]}', "the selections are not of this model: they name layers that it lacks"),
        ('{"inner":[[0]]}', INNER),
        ('{"inner":[[0],[1],[2]]}', INNER),
        ('{"inner":[[0],[4]]}', INNER),
        ('{"inner":[[0],[-1]]}', INNER),
        ('{"inner":[[0],["1"]]}', INNER),
        ('{"inner":5}', INNER),
        ('{"inner":[1,2]}', INNER),
        ("{", "Expecting property name"),
    ],
)
def test_what_are_no_selections_of_the_model(text: str, message: str):
    with pytest.raises(ValueError, match=f"^{message}"):
        layout_from_json(GRAPH, layout_to_json(GRAPH, LAYOUT), text)
