"""What a model offers to compression: what can be clustered or dropped, what stays and why."""

import gc
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from crespr_onnx.graph.accounting import node_costs, with_macs
from crespr_onnx.graph.channels import Obstacle
from crespr_onnx.graph.load import LoadedModel, errors_of
from crespr_onnx.layout import ChannelGraph, ChannelGroup, WeightedEdge
from crespr_onnx.stages.prepare import analyse_model
from crespr_onnx.training.allocate import edge_rooms, max_clusters
from crespr_onnx.training.knobs import FEWEST_INPUTS, selecting_edges
from crespr_onnx.training.shrink import max_mac_ratio, max_ratio


@dataclass(frozen=True)
class GroupInfo:
    """A channel group.

    Attributes:
        name: of the first tensor that carries it.
        channels: how many it has.
        verdict: what may become of them.
        max_clusters: the most clusters that make a difference; 1 unless it can be clustered.
        reason: why the channels stay, or why they can only be dropped; empty if neither.
    """

    name: str
    channels: int
    verdict: Literal["cluster", "drop", "keep"]
    max_clusters: int
    reason: str


@dataclass(frozen=True)
class LayerInfo:
    """A weighted edge.

    Attributes:
        name: of its node.
        op: its operator.
        inputs: channels that it reads.
        outputs: channels that it makes.
        kernel: weights per connection of an input to an output.
        weights: weights stored.
        macs: multiply-accumulates per sample, or None if a shape is not fixed.
        verdict: "split" into clusters that choose their inputs, "shrink" (fewer channels, or fewer
            inputs that all outputs read), or "dense" as it is.
        max_clusters: the most clusters that its outputs can form.
        reason: why it cannot be split, or not even shrink; empty if it can be split.
    """

    name: str
    op: str
    inputs: int
    outputs: int
    kernel: int
    weights: int
    macs: int | None
    verdict: Literal["split", "shrink", "dense"]
    max_clusters: int
    reason: str


@dataclass(frozen=True)
class Inspection:
    """All that `inspect` tells.

    Attributes:
        path: of the model.
        sha256: of its file.
        bytes: size of the file and its external data.
        opset: of the ONNX operators.
        inputs: name, type and shape of each input, as text.
        outputs: the same of each output.
        operators: how often each operator occurs, the most frequent first.
        weights: stored in all layers.
        macs: multiply-accumulates per sample of all that these weights take part in, or None if a
            shape is not fixed.
        max_ratio: highest physical ratio that can be asked for.
        max_mac_ratio: highest share of `macs` that --mac-ratio can ask for, or None if they are not
            known.
        max_clusters: most clusters that any layer can be split into.
        groups: all channel groups.
        layers: all weighted edges.
        obstacles: nodes that were not understood, which keep their neighbours dense.
    """

    path: str
    sha256: str
    bytes: int
    opset: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    operators: Mapping[str, int]
    weights: int
    macs: int | None
    max_ratio: float
    max_mac_ratio: float | None
    max_clusters: int
    groups: tuple[GroupInfo, ...]
    layers: tuple[LayerInfo, ...]
    obstacles: tuple[Obstacle, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def inspect_model(path: Path | str) -> Inspection:
    """Loads a model and says what can be compressed in it, just as `compress` sees it.

    Raises:
        ModelError: if it cannot be loaded or run.
    """
    with _collection_paused():
        prepared = analyse_model(Path(path))
        with errors_of(prepared.loaded.path):
            costs = node_costs(prepared.model)
        return _inspection(prepared.loaded, with_macs(prepared.graph, costs), prepared.obstacles)


@contextmanager
def _collection_paused() -> Iterator[None]:
    """Keeps the garbage collector off a graph that only grows.

    It would walk all nodes again and again, which made half of the time at 10,000 nodes and was
    all of it that grew faster than they (samples/benchmarks/inspect_speed.py).
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _inspection(
    loaded: LoadedModel, graph: ChannelGraph, obstacles: tuple[Obstacle, ...]
) -> Inspection:
    rooms = edge_rooms(graph)
    selecting = {edge.name for edge in selecting_edges(graph)}
    layers = tuple(
        _layer(graph, edge, room, selects=edge.name in selecting)
        for edge, room in zip(graph.edges, rooms, strict=True)
    )
    operators = Counter(node.op_type for node in loaded.model.graph)
    return Inspection(
        path=str(loaded.path),
        sha256=loaded.sha256,
        bytes=loaded.bytes,
        opset=loaded.model.opset_imports[""],
        inputs=tuple(map(str, loaded.signature.inputs)),
        outputs=tuple(map(str, loaded.signature.outputs)),
        operators=dict(sorted(operators.items(), key=lambda item: (-item[1], item[0]))),
        weights=graph.weights,
        macs=graph.macs,
        max_ratio=max_ratio(graph) if graph.weights else 0.0,
        max_mac_ratio=max_mac_ratio(graph) if graph.macs is not None else None,
        max_clusters=max_clusters(graph),
        groups=_groups(graph, rooms),
        layers=layers,
        obstacles=obstacles,
    )


def _groups(graph: ChannelGraph, rooms: list[int]) -> tuple[GroupInfo, ...]:
    most = [1] * len(graph.groups)
    for edge, room in zip(graph.edges, rooms, strict=True):
        for index in graph.groups_on(edge.out_channels):
            most[index] = max(most[index], room)
    return tuple(_group(*both) for both in zip(graph.groups, most, strict=True))


def _group(group: ChannelGroup, most: int) -> GroupInfo:
    n = len(group.channels)
    if group.frozen is not None:
        return GroupInfo(group.name, n, "keep", 1, group.frozen)
    if most > 1:
        return GroupInfo(group.name, n, "cluster", most, "")
    return GroupInfo(group.name, n, "drop", 1, "no layer that writes it can be split")


def _layer(graph: ChannelGraph, edge: WeightedEdge, room: int, *, selects: bool) -> LayerInfo:
    verdict: Literal["split", "shrink", "dense"] = "split"
    reason = ""
    if edge.frozen is not None:
        verdict, reason = "dense", edge.frozen
    elif room == 1:
        sides = (edge.in_channels, edge.out_channels)
        stays = not selects and all(graph.is_frozen(side) for side in sides)
        verdict = "dense" if stays else "shrink"
        reason = "; ".join(_why_whole(graph, edge, selects))
    return LayerInfo(
        name=edge.name,
        op=edge.op,
        inputs=len(edge.in_channels),
        outputs=len(edge.out_channels),
        kernel=edge.kernel,
        weights=edge.weights,
        macs=edge.macs,
        verdict=verdict,
        max_clusters=room,
        reason=reason,
    )


def _why_whole(graph: ChannelGraph, edge: WeightedEdge, selects: bool) -> list[str]:
    """Why the outputs of an edge form no clusters that choose their inputs."""
    groups = (graph.groups[i].frozen for i in graph.groups_on(edge.out_channels))
    reasons = list(dict.fromkeys(reason for reason in groups if reason is not None))
    if len(edge.in_channels) < FEWEST_INPUTS:
        reasons.append(f"it has fewer than {FEWEST_INPUTS} inputs")
    elif not selects:
        reasons.append("it shares its weights with another layer")
    return reasons or ["it has too few channels for two clusters"]
