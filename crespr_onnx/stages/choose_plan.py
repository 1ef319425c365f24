"""Chooses among layouts by trying them: short trainings, or re-fits where nothing is trained."""

from functools import partial

import numpy as np
import onnx_ir as ir

from crespr_onnx.layout import ChannelGraph
from crespr_onnx.progress import Listener, Progress, silent
from crespr_onnx.settings import CompressSettings
from crespr_onnx.stages.correct import correct
from crespr_onnx.stages.lower import split
from crespr_onnx.stages.masking import masked_copy
from crespr_onnx.stages.plan_layout import LayoutPlan
from crespr_onnx.training.finetune import FineTuning, fine_tune, mean_loss
from crespr_onnx.training.importer import ImportedModel, import_model
from crespr_onnx.training.lesson import Lesson
from crespr_onnx.training.together import on_main

TRIAL_SHARE = 0.1
"""Training steps that all short trials take together, relative to the whole run."""
MAX_TRIAL_STEPS = 200
FINALISTS, FINAL_STEPS = 2, 4
"""So many of the candidates get a trial that is so many times as long."""
HELD_BACK = 1024
"""Most samples that no trial trains on, to compare the candidates by."""


def choose_plan(
    dense: ir.Model,
    graph: ChannelGraph,
    plans: list[LayoutPlan],
    lesson: Lesson | None,
    settings: CompressSettings,
    notify: Listener,
) -> LayoutPlan:
    """Cuts the dense model down to each of the best plans, trains it briefly, keeps the best.

    Kept importance alone does not tell how well a small network trains, a short training does; the
    best of the short ones are told apart by longer ones, as in successive halving (Jamieson and
    Talwalkar 2015, arXiv 1502.07943). Without training, it does not tell how well a re-fit goes
    either, and so that is tried.
    """
    if lesson is None:
        return plans[0]
    if settings.epochs == 0 and len(plans) > 1:
        return _best_corrected(dense, graph, plans, lesson, settings, notify)
    whole = settings.epochs * lesson.steps(settings.batch_size)
    steps = min(MAX_TRIAL_STEPS, int(TRIAL_SHARE * whole / len(plans)))
    if len(plans) == 1 or steps < 1:
        return plans[0]
    trials = len(plans) + FINALISTS
    losses: list[float] = []

    def try_out(plan: LayoutPlan, steps: int) -> float:
        masked = masked_copy(dense, graph, plan.layout)
        imported = import_model(split(masked, graph, plan.layout))
        losses.append(_loss_after(imported, lesson, settings, steps))
        notify(_tried(plan, losses[-1], len(losses) / trials))
        return losses[-1]

    first = [try_out(plan, steps) for plan in plans]
    finalists = [plans[i] for i in np.argsort(first, kind="stable")[:FINALISTS].tolist()]
    last = [try_out(plan, FINAL_STEPS * steps) for plan in finalists]
    chosen: LayoutPlan = finalists[np.argsort(last, kind="stable").tolist()[0]]
    notify(_chose(chosen))
    return chosen


def _loss_after(
    imported: ImportedModel, lesson: Lesson, settings: CompressSettings, steps: int
) -> float:
    """Trains a model for some steps; its loss on samples that these do not see."""
    n = len(lesson.samples)
    order = np.random.default_rng((settings.seed, 7)).permutation(n)
    held = min(HELD_BACK, n // 5 + 1)
    seen = min(n - held, steps * settings.batch_size)
    exam = lesson.part(np.sort(order[:held]))
    trial = lesson.part(np.sort(order[held : held + seen]))
    tuning = FineTuning(
        max(1, steps // trial.steps(settings.batch_size)),
        settings.batch_size,
        settings.lr,
        seed=settings.seed,
        precision=settings.precision,
    )
    fine_tune(imported.module, trial, tuning)
    return on_main(partial(mean_loss, imported.module, exam))


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
