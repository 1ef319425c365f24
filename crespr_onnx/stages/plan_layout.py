"""Chooses the layout: importance, then cluster count, widths and labels under the budget."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
import onnx_ir as ir

from crespr_onnx.errors import ModelError, UsageError
from crespr_onnx.layout import ChannelGraph, Layout
from crespr_onnx.progress import Listener, Progress, silent
from crespr_onnx.settings import CompressSettings
from crespr_onnx.stages.correct import correct
from crespr_onnx.stages.lower import split
from crespr_onnx.stages.masking import masked_copy
from crespr_onnx.training.allocate import (
    READINGS,
    Allocation,
    form_clusters,
    max_clusters,
)
from crespr_onnx.training.channel_edges import ChannelEdge, channel_edges
from crespr_onnx.training.cluster import cluster, log_kept
from crespr_onnx.training.criteria.criterion import Importance
from crespr_onnx.training.finetune import FineTuning, fine_tune, mean_loss
from crespr_onnx.training.importer import import_model
from crespr_onnx.training.knobs import Reading, is_convolution, selecting_edges
from crespr_onnx.training.lesson import Lesson
from crespr_onnx.training.shrink import max_ratio, shown, shrink
from crespr_onnx.training.together import on_main

CANDIDATES = (1, 2, 4, 8, 16, 32)
"""Cluster counts that `--clusters auto` considers."""
TRIALS_PER_READING = 2
LOW_PRICES = (Reading(0.375), Reading(0.1875), Reading(0.09375))
"""Where clusters are asked for, and would read everything at the prices that train best."""
TIE = 1.05
"""A trial loss up to this many times the lowest counts as equal: then fewer clusters, which run
faster, are preferred."""
TRIAL_SHARE = 0.1
"""Training steps that all trials take together, relative to the whole run."""
MAX_TRIAL_STEPS = 200
HELD_BACK = 1024
"""Most samples that no trial trains on, to compare the candidates by."""


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


def check_ratio(graph: ChannelGraph, ratio: float, clusters: int | None) -> None:
    """Refuses what no layout of the model can give.

    Raises:
        ModelError: if no layout reaches the ratio.
        UsageError: if the model has no room for that many clusters.
    """
    reachable = max_ratio(graph)
    if ratio > reachable:
        raise ModelError(
            f"--ratio {ratio:g} is beyond what this model allows: at most {shown(reachable)} of "
            "its weights can go (crespr-onnx inspect shows what stays dense and why)"
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
        UsageError: if the ratio is out of reach.
    """
    edges = channel_edges(graph, scores)
    found = [
        plan
        for reading in _readings(graph, settings.ratio)
        for plan in _plans_at(graph, settings, edges, reading)[:TRIALS_PER_READING]
    ]
    # Where there is little to read, readings lead to the same sizes.
    plans = list({plan.allocation.sizes: (kept, plan) for kept, plan in found}.values())
    if settings.clusters is not None and settings.clusters > 1:
        cheap = (plan for r in LOW_PRICES for plan in _plans_at(graph, settings, edges, r))
        first_cheap = islice(_that_split(graph, cheap), 1)
        plans = list(_that_split(graph, plans)) or list(first_cheap) or plans
    return [plan for _, plan in sorted(plans, key=lambda ranked: -ranked[0])]


def _readings(graph: ChannelGraph, ratio: float) -> list[Reading]:
    """Those that reach a ratio, each different for the model."""
    convolutions = any(is_convolution(edge) for edge in selecting_edges(graph))
    return [
        reading
        for reading in READINGS
        if reading.by_convolutions or (convolutions and ratio <= max_ratio(graph, reading))
    ]


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
    shrunk = shrink(graph, settings.ratio, reading)
    for k in (settings.clusters,) if settings.clusters is not None else CANDIDATES:
        allocation = form_clusters(shrunk, k)
        counts = tuple(allocation.clusters.tolist())
        if counts == before:
            break
        before = counts
        layout = cluster(graph, edges, allocation, settings.seed)
        plans.append((log_kept(layout, edges), LayoutPlan(allocation, layout, k)))
    return sorted(plans, key=lambda ranked: -ranked[0])


def choose_plan(
    dense: ir.Model,
    graph: ChannelGraph,
    plans: list[LayoutPlan],
    lesson: Lesson | None,
    settings: CompressSettings,
    notify: Listener,
) -> LayoutPlan:
    """Cuts the dense model down to each of the best plans, trains it briefly, keeps the best.

    Kept importance alone does not tell how well a small network trains, a short training does.
    Without training, it does not tell how well a re-fit goes either, and so that is tried.
    """
    if lesson is None:
        return plans[0]
    if settings.epochs == 0 and len(plans) > 1:
        return _best_corrected(dense, graph, plans, lesson, settings, notify)
    whole = settings.epochs * lesson.steps(settings.batch_size)
    steps = min(MAX_TRIAL_STEPS, int(TRIAL_SHARE * whole / len(plans)))
    if len(plans) == 1 or steps < 1:
        return plans[0]
    n = len(lesson.samples)
    order = np.random.default_rng((settings.seed, 7)).permutation(n)
    held = min(HELD_BACK, n // 5 + 1)
    seen = min(n - held, steps * settings.batch_size)
    trial, exam = (
        lesson.part(np.sort(order[held : held + seen])),
        lesson.part(np.sort(order[:held])),
    )
    passes = max(1, steps // trial.steps(settings.batch_size))
    losses = []
    for i, plan in enumerate(plans):
        masked = masked_copy(dense, graph, plan.layout)
        imported = import_model(split(masked, graph, plan.layout))
        setting = FineTuning(
            passes,
            settings.batch_size,
            settings.lr,
            seed=settings.seed,
            precision=settings.precision,
        )
        fine_tune(imported.module, trial, setting)
        losses.append(on_main(partial(mean_loss, imported.module, exam)))
        notify(_tried(plan, losses[-1], (i + 1) / len(plans)))
    tried = [
        (plan.clusters, loss, i) for i, (plan, loss) in enumerate(zip(plans, losses, strict=True))
    ]
    chosen = plans[min(t for t in tried if t[1] <= TIE * min(losses))[2]]
    notify(_chose(chosen))
    return chosen


def _best_corrected(
    dense: ir.Model,
    graph: ChannelGraph,
    plans: list[LayoutPlan],
    lesson: Lesson,
    settings: CompressSettings,
    notify: Listener,
) -> LayoutPlan:
    """The plan whose re-fitted model has the lowest loss; the first of equals."""
    losses = []
    for i, plan in enumerate(plans):
        masked = masked_copy(dense, graph, plan.layout)
        found = correct(dense, masked, graph, plan.layout, lesson, settings, silent)
        loss = found.after if found.helped else found.before
        losses.append(loss if np.isfinite(loss) else np.inf)
        notify(_tried(plan, losses[-1], (i + 1) / len(plans)))
    chosen = plans[int(np.argmin(losses))]
    notify(_chose(chosen))
    return chosen


def _tried(plan: LayoutPlan, loss: float, share: float) -> Progress:
    return Progress("trying cluster counts", share, f"{plan.clusters} clusters: loss {loss:.4f}")


def _chose(plan: LayoutPlan) -> Progress:
    return Progress("trying cluster counts", 1.0, f"chose {plan.clusters}")
