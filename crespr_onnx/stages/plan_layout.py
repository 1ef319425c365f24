"""The layouts to choose from: cluster counts, widths and labels under the budget."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from crespr_onnx.errors import ModelError, UsageError
from crespr_onnx.layout import ChannelGraph, Layout
from crespr_onnx.settings import CompressSettings
from crespr_onnx.training.allocate import (
    READINGS,
    Allocation,
    form_clusters,
    max_clusters,
)
from crespr_onnx.training.channel_edges import ChannelEdge, channel_edges
from crespr_onnx.training.cluster import cluster, log_kept
from crespr_onnx.training.criteria.criterion import Importance
from crespr_onnx.training.knobs import Reading, selecting_edges
from crespr_onnx.training.shrink import max_mac_ratio, max_ratio, shown, shrink

CANDIDATES = (1, 2, 4, 8, 16, 32)
"""Cluster counts that `--clusters auto` considers."""
TRIALS_PER_READING = 2
LOW_PRICES = (Reading(0.375), Reading(0.1875), Reading(0.09375))
"""Where clusters are asked for, and would read everything at the prices that train best."""


@dataclass(frozen=True, eq=False)
class LayoutPlan:
    """A layout and what it was made from.

    Attributes:
        allocation: widths and cluster counts.
        layout: the labels.
        clusters: the cluster count that was asked for or chosen.
    """

    allocation: Allocation
    layout: Layout
    clusters: int


def check_ratio(graph: ChannelGraph, settings: CompressSettings) -> None:
    """Refuses what no layout of the model can give.

    Raises:
        ModelError: if no layout reaches the ratio, or the ratio of multiply-accumulates.
        UsageError: if the model has no room for that many clusters.
    """
    ratio, mac_ratio, clusters = settings.ratio, settings.mac_ratio, settings.clusters
    reachable = max_ratio(graph)
    if ratio > reachable:
        raise ModelError(
            f"--ratio {ratio:g} is beyond what this model allows: at most {shown(reachable)} of "
            "its weights can go (crespr-onnx inspect shows what stays dense and why)"
        )
    if mac_ratio is not None and mac_ratio > (saved := max_mac_ratio(graph)):
        raise ModelError(
            f"--mac-ratio {mac_ratio:g} is beyond what this model allows: at most {shown(saved)} "
            "of its multiply-accumulates can go (crespr-onnx inspect shows what stays dense and "
            "why)"
        )
    most = max_clusters(graph)
    if clusters is not None and clusters > most:
        raise UsageError(
            f"--clusters {clusters} is more than this model has room for: no layer can be split "
            f"into more than {most}; give at most {most}, or auto"
        )


def possible_plans(
    graph: ChannelGraph, settings: CompressSettings, scores: Importance
) -> list[LayoutPlan]:
    """The best layouts that reach a ratio, the one that keeps the most importance first.

    Args:
        graph: channels of the dense model.
        settings: ratio, cluster count (None to compare all that are possible), and seed.
        scores: importance of all connections.

    Raises:
        UsageError: if a ratio is out of reach.
    """
    edges = channel_edges(graph, scores)
    found = [
        plan
        for reading in _readings(graph, settings)
        for plan in _plans_at(graph, settings, edges, reading)[:TRIALS_PER_READING]
    ]
    # Where there is little to read, readings lead to the same sizes.
    plans = list({plan.allocation.sizes: (kept, plan) for kept, plan in found}.values())
    if settings.clusters is not None and settings.clusters > 1:
        cheap = (plan for r in LOW_PRICES for plan in _plans_at(graph, settings, edges, r))
        first_cheap = islice(_that_split(graph, cheap), 1)
        plans = list(_that_split(graph, plans)) or list(first_cheap) or plans
    return [plan for _, plan in sorted(plans, key=lambda ranked: -ranked[0])]


def _readings(graph: ChannelGraph, settings: CompressSettings) -> list[Reading]:
    """Those that reach what is asked for, each different for the model."""
    convolutions = any(edge.is_convolution for edge in selecting_edges(graph))
    return [
        reading
        for reading in READINGS
        if reading.by_convolutions or (convolutions and _reaches(graph, settings, reading))
    ]


def _reaches(graph: ChannelGraph, settings: CompressSettings, reading: Reading) -> bool:
    if settings.ratio > max_ratio(graph, reading):
        return False
    return settings.mac_ratio is None or settings.mac_ratio <= max_mac_ratio(graph, reading)


def _that_split(
    graph: ChannelGraph, plans: Iterable[tuple[float, LayoutPlan]]
) -> Iterator[tuple[float, LayoutPlan]]:
    """Those in which at least one edge is split."""
    for kept, plan in plans:
        if any(plan.layout.edge_clusters(graph, edge) > 1 for edge in graph.edges):
            yield kept, plan


def _plans_at(
    graph: ChannelGraph,
    settings: CompressSettings,
    edges: tuple[ChannelEdge, ...],
    reading: Reading,
) -> list[tuple[float, LayoutPlan]]:
    """Plans of all cluster counts with what they keep, the best first."""
    plans: list[tuple[float, LayoutPlan]] = []
    before: tuple[int, ...] = ()
    shrunk = shrink(graph, settings.ratio, reading, settings.mac_ratio)
    for k in (settings.clusters,) if settings.clusters is not None else CANDIDATES:
        allocation = form_clusters(shrunk, k)
        counts = tuple(allocation.clusters.tolist())
        if counts == before:
            break
        before = counts
        layout = cluster(graph, edges, allocation, settings.seed)
        plans.append((log_kept(layout, edges), LayoutPlan(allocation, layout, k)))
    return sorted(plans, key=lambda ranked: -ranked[0])
