"""A layout as JSON and back: what a checkpoint holds and an emitted model is marked with."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from crespr_onnx.layout import (
    DROPPED,
    BoolArray,
    ChannelGraph,
    Layout,
    WeightedEdge,
    dense_layout,
)


def layout_to_json(graph: ChannelGraph, layout: Layout) -> str:
    """Group name -> K, kept channels per cluster, and the label of each channel."""
    return _compact(
        {
            group.name: {
                "clusters": int(k),
                "sizes": np.bincount(
                    layout.labels[group.channels][layout.kept(group.channels)], minlength=int(k)
                ).tolist(),
                "labels": layout.labels[group.channels].tolist(),
            }
            for group, k in zip(graph.groups, layout.clusters, strict=True)
            if group.frozen is None
        }
    )


def selections_to_json(layout: Layout) -> str:
    """Edge name -> for each cluster of its outputs the input positions that it reads."""
    return _compact(
        {
            name: [np.flatnonzero(column).tolist() for column in selection.T]
            for name, selection in sorted(layout.selections.items())
        }
    )


def layout_from_json(graph: ChannelGraph, text: str, selections: str = "{}") -> Layout:
    """The layout that the two functions above wrote for the same graph.

    Raises:
        ValueError: if the text is of another graph, or holds labels that are no clusters.
    """
    known = json.loads(text)
    layout = dense_layout(graph)
    free = [(i, group) for i, group in enumerate(graph.groups) if group.frozen is None]
    if not isinstance(known, dict) or len(known) != len(free):
        raise ValueError(f"the layout is not one of this model, which has {len(free)} free groups")
    for i, group in free:
        entry = known.get(group.name)
        entry = entry if isinstance(entry, dict) else {}
        labels, clusters = entry.get("labels"), entry.get("clusters")
        if not isinstance(labels, list) or len(labels) != len(group.channels):
            raise ValueError(f"the layout does not know group '{group.name}' of this model")
        if not isinstance(clusters, int) or not 1 <= clusters <= len(labels):
            raise ValueError(
                f"group '{group.name}' must have from 1 to {len(labels)} clusters, not {clusters!r}"
            )
        if not all(isinstance(n, int) and DROPPED <= n < clusters for n in labels):
            raise ValueError(
                f"labels of group '{group.name}' must lie between {DROPPED} and {clusters - 1}, "
                "its last cluster"
            )
        layout.labels[group.channels] = labels
        layout.clusters[i] = clusters
    return replace(layout, selections=_selections(json.loads(selections), graph, layout))


def _selections(known: Any, graph: ChannelGraph, layout: Layout) -> Mapping[str, BoolArray]:  # noqa: ANN401
    edges = {edge.name: edge for edge in graph.edges}
    if not isinstance(known, dict) or not known.keys() <= edges.keys():
        raise ValueError("the selections are not of this model: they name layers that it lacks")
    return {name: _selection(edges[name], lists, graph, layout) for name, lists in known.items()}


def _selection(edge: WeightedEdge, lists: Any, graph: ChannelGraph, layout: Layout) -> BoolArray:  # noqa: ANN401
    k, n = layout.axis_clusters(graph, edge.out_channels), len(edge.in_channels)
    good = isinstance(lists, list) and len(lists) == k and all(isinstance(c, list) for c in lists)
    if not good or not all(isinstance(i, int) and 0 <= i < n for column in lists for i in column):
        raise ValueError(
            f"the selection of '{edge.name}' must list input positions below {n} for each of "
            f"{k} clusters"
        )
    selection = np.zeros((n, k), dtype=np.bool_)
    for column, positions in enumerate(lists):
        selection[positions, column] = True
    return selection


def _compact(content: Mapping[str, Any]) -> str:
    return json.dumps(content, separators=(",", ":"))
