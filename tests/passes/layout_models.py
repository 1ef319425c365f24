"""Random networks and layouts for the passes that lower a layout."""

from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
from internal_selections import internal_selections
from layout_links import FLAT, IMAGE, TOKENS, Net, conv, dense
from pass_helpers import parse

from crespr_onnx.graph.channels import find_channels
from crespr_onnx.layout import (
    DROPPED,
    BoolArray,
    ChannelGraph,
    Layout,
    WeightedEdge,
)
from crespr_onnx.stages.prepare import infer_shapes


def network(kind: str, links: list[str]) -> onnx.ModelProto:
    """A network of the links, behind a first layer and before two dense ones."""
    if kind == "image":
        net, table, given = Net((3, 5, 5)), IMAGE, "float[N, 3, 5, 5] x"
        conv(net, 8)
    elif kind == "flat":
        net, table, given = Net((12,)), FLAT, "float[N, 12] x"
        dense(net, 8)
    else:
        net, table, given = Net((4, 6), last=True), TOKENS, "float[N, 4, 6] x"
        dense(net, 8, "MatMul")
    for link in links:
        table[link](net)
    if kind != "flat":
        net.add(f"Flatten({net.value})", (int(np.prod(net.shape)),))
    net.last = True
    dense(net, 8)
    net.add(f"Relu({net.value})")
    dense(net, 3, "transB")
    ranks = dict(net.history)
    ends = ", ".join(
        f"float[N, {', '.join(f'{v}_{i}' for i in range(len(ranks[v])))}] {v}"
        for v in [*net.outputs, net.value]
    )
    return parse(f"g ({given}) => ({ends}) {{ {' '.join(net.lines)} }}", **net.arrays)


def analysed(proto: onnx.ModelProto) -> tuple[ir.Model, ChannelGraph]:
    """The model as `analyse_model` has it."""
    model = ir.from_proto(proto)
    infer_shapes(model)
    return model, find_channels(model)[0]


def random_layout(graph: ChannelGraph, seed: int, clusters: int | None = None) -> Layout:
    """Any layout with equally large clusters; `clusters` asks for that many where they fit.

    Edges are dense, read their own clusters only, or have any selection, which may overlap and may
    name dropped channels.
    """
    random = np.random.default_rng(seed)
    labels = np.zeros(graph.n_channels, np.int64)
    counts = np.ones(len(graph.groups), np.int64)
    for i, group in enumerate(graph.groups):
        n = len(group.channels)
        if group.frozen is not None:
            continue
        fitting = [k for k in (1, 2, 4) if k <= n]
        k = clusters if clusters in fitting else int(random.choice(fitting))
        size = int(random.integers(1, n // k + 1))
        fate = np.repeat([*range(k), DROPPED], [*[size] * k, n - k * size])
        labels[group.channels] = random.permutation(fate)
        counts[i] = k
    layout = Layout(labels, counts)
    own = internal_selections(graph, layout)
    uses = Counter(edge.weight for edge in graph.edges)
    selections = {}
    for edge in graph.edges:
        kind = str(random.choice(["dense", "own", "any", "any"]))
        # A weight that several edges share is stored once, whatever each of them reads.
        if uses[edge.weight] > 1 or kind == "own":
            found = own.get(edge.name)
        else:
            found = None if kind == "dense" else any_selection(graph, layout, edge, random)
        if found is not None:
            selections[edge.name] = found
    return replace(layout, selections=selections)


def any_selection(
    graph: ChannelGraph, layout: Layout, edge: WeightedEdge, random: np.random.Generator
) -> BoolArray | None:
    """Equally many inputs for each cluster of an edge's outputs, or None where it must be dense."""
    counts = {int(layout.clusters[i]) for i in graph.groups_on(edge.out_channels)}
    kept = np.flatnonzero(layout.kept(edge.in_channels))
    if edge.frozen is not None or len(counts) > 1 or not len(kept):
        return None
    selection = random.random((len(edge.in_channels), counts.pop())) < 0.5
    selection[kept] = False
    reads = int(random.integers(1, len(kept) + 1))
    for column in selection.T:
        column[random.permutation(kept)[:reads]] = True
    return selection
