"""Restriction of the dense model and fine-tuning of the small one."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir
import torch

from crespr_onnx import processes
from crespr_onnx.data import Samples
from crespr_onnx.errors import ModelError
from crespr_onnx.layout import ChannelGraph, Layout
from crespr_onnx.progress import Listener, Progress
from crespr_onnx.settings import CompressSettings
from crespr_onnx.stages.answers import answers_of
from crespr_onnx.stages.correct import correct
from crespr_onnx.stages.masking import mask_weights
from crespr_onnx.stages.plan_layout import LayoutPlan
from crespr_onnx.training.checkpoint import Checkpoint
from crespr_onnx.training.criteria import CRITERIA
from crespr_onnx.training.criteria.criterion import Importance, weight_energy
from crespr_onnx.training.finetune import FineTuning, fine_tune
from crespr_onnx.training.importer import ImportedModel, import_model
from crespr_onnx.training.lesson import Lesson
from crespr_onnx.training.objective import Batch, Objective
from crespr_onnx.training.own_loss import OwnObjective, check_loss, own_objective
from crespr_onnx.training.restrict import Restriction
from crespr_onnx.training.together import on_main
from crespr_onnx.training.watch import Watch

CALIBRATION_BATCHES = 16
CUT_BATCHES = 8
"""Half batches that the importance is measured on at each cut of the restriction: inference takes
more memory per sample than training where it stores activations in another layout."""
RESTRICT_SHARE = 0.35
"""Share of the epochs in which the dense model is restricted; the small one gets the others."""
RESTRICT_LR = 1.0 / 3.0
"""Learning rate of the restriction relative to fine-tuning: a trained model wants smaller steps."""
LEAST_STEPS = 300
"""Steps that a restriction must have: a cut at once, corrected, is a better start than a hasty one
(ResNet-20 on 5,000 images in 3 epochs: by 4 to 7 points; with 300 steps they are level)."""
HELD_OUT = 0.1
"""Share of the training data that fine-tuning is watched on, if it may stop early."""


def check_trainable(dense: ir.Model) -> None:
    """Refuses a model that PyTorch cannot train, before hours of work rather than after.

    Raises:
        ModelError: naming the operator that is in the way.
    """
    import_model(dense)


def make_lesson(
    dense: ir.Model, samples: Samples | None, settings: CompressSettings, notify: Listener
) -> Lesson | None:
    """Lets the dense model answer all samples once, so that no step has to ask it again.

    Raises:
        ModelError: if no output has an answer per sample.
        UsageError: if the loss is the user's own and there is something wrong with it.
    """
    if samples is None:
        return None
    cores = max(1, (os.cpu_count() or 1) // processes.on_this_machine())
    torch.set_num_threads(settings.threads or cores)
    targets = answers_of(
        dense,
        samples,
        torch.get_num_threads(),
        lambda share: notify(Progress("asking the dense model", share)),
    )
    if settings.loss is None and all(target is None for target in targets):
        raise ModelError(
            "no output of the model has a row of floating-point numbers for each sample, so there "
            "is nothing to learn from; run with --epochs 0 and without --data"
        )
    variances = tuple(0.0 if target is None else float(target.var()) for target in targets)
    objective = replace(objective_for(dense, samples), variances=variances)
    if settings.loss is not None:
        objective = own_objective(settings.loss, objective)
    lesson = Lesson(
        samples=samples,
        inputs=tuple(value.name or "" for value in dense.graph.inputs),
        targets=targets,
        objective=objective,
    )
    if isinstance(objective, OwnObjective):
        check_loss(
            objective, import_model(dense).module, lesson.calibration(settings.batch_size, 1)[0]
        )
    return lesson


def objective_for(dense: ir.Model, samples: Samples) -> Objective:
    """A classifier's objective for one matrix of scores, squared distance for all else."""
    output = dense.graph.outputs[0]
    shape = list(output.shape or ())
    scores = len(dense.graph.outputs) == 1 and len(shape) == 2
    producer = output.producer()
    return Objective(
        classifier=scores and (samples.labels is not None or shape[-1] != 1),
        probabilities=producer is not None and producer.op_type == "Softmax",
    )


def score(
    dense: ir.Model, graph: ChannelGraph, lesson: Lesson | None, settings: CompressSettings
) -> Importance:
    """Importance of all connections: by the chosen criterion, or by the weights alone."""
    if lesson is None:
        return weight_energy(dense, graph)
    batches = lesson.calibration(settings.batch_size, CALIBRATION_BATCHES)
    return _score(import_model(dense), graph, batches, lesson.objective, settings)


def _score(
    imported: ImportedModel,
    graph: ChannelGraph,
    batches: list[Batch],
    objective: Objective,
    settings: CompressSettings,
) -> Importance:
    device = next((p.device for p in imported.module.parameters()), torch.device("cpu"))
    calibration = [batch.to(device) for batch in batches]
    return CRITERIA[settings.criterion].score(imported, graph, calibration, objective)


def restrict(
    dense: ir.Model,
    graph: ChannelGraph,
    plan: LayoutPlan,
    lesson: Lesson | None,
    settings: CompressSettings,
    checkpoint: Path,
    notify: Listener,
) -> tuple[ir.Model, Layout]:
    """Shrinks the dense model to the sizes of a plan while training.

    Without the epochs and data for that it is cut at once, and what is left is corrected if there
    is data at all. After a restriction, a correction takes back some of what was learnt.

    Returns:
        A copy of the dense model with the restricted weights, and the layout, which training has
        had its say in.
    """
    epochs = 0
    if lesson is not None:
        epochs = restrict_epochs(settings.epochs, lesson.steps(settings.batch_size))
    model = dense.clone(deep_copy=True)
    layout = plan.layout
    if epochs and lesson is not None:
        imported = import_model(dense)
        restriction = Restriction(imported, graph, layout, plan.allocation)

        def cut(progress: float) -> None:
            if restriction.due(progress):
                scores = on_main(lambda: score_for_cut(imported, graph, lesson, settings))
                restriction.cut(progress, restriction.next_layout(progress, scores))
            restriction.hold()

        fine_tune(
            imported.module,
            lesson,
            _fine_tuning(settings, epochs, settings.lr * RESTRICT_LR, settings.seed),
            before_step=cut,
            after_step=_reporter("restricting to clusters", epochs, notify),
            checkpoint=Checkpoint(checkpoint, restriction),
        )
        cut(1.0)
        imported.write_back(model)
        layout = restriction.layout
    mask_weights(model, graph, layout)
    if not epochs and lesson is not None:
        model = correct(dense, model, graph, layout, lesson, settings, notify).model
    return model, layout


def score_for_cut(
    imported: ImportedModel, graph: ChannelGraph, lesson: Lesson, settings: CompressSettings
) -> Importance:
    """Importance of all connections of a model in training, from a few batches."""
    training = imported.module.training
    batches = lesson.calibration(max(1, settings.batch_size // 2), CUT_BATCHES)
    scores = _score(imported, graph, batches, lesson.objective, settings)
    imported.module.train(training)
    return scores


def tune(
    small: ir.Model,
    lesson: Lesson | None,
    settings: CompressSettings,
    checkpoint: Path,
    notify: Listener,
) -> ir.Model:
    """A copy of the small model, fine-tuned for the epochs that restriction left."""
    model = small.clone(deep_copy=True)
    if settings.epochs and lesson is not None:
        restricted = restrict_epochs(settings.epochs, lesson.steps(settings.batch_size))
        epochs = settings.epochs - restricted
        imported = import_model(model)
        watch = None
        if settings.patience is not None:
            lesson, exam = lesson.hold_out(HELD_OUT, settings.seed)
            watch = Watch(exam, settings.patience)
        fine_tune(
            imported.module,
            lesson,
            _fine_tuning(settings, epochs, settings.lr, settings.seed + 1),
            after_step=_reporter("fine-tuning the small model", epochs, notify, watch),
            checkpoint=Checkpoint(checkpoint),
            watch=watch,
        )
        imported.write_back(model)
    return model


def restrict_epochs(epochs: int, steps: int) -> int:
    """How many of all epochs, of so many steps each, go into the restriction."""
    share = max(1, round(epochs * RESTRICT_SHARE)) if epochs >= 2 else 0
    return share if share * steps >= LEAST_STEPS else 0


def _fine_tuning(settings: CompressSettings, epochs: int, lr: float, seed: int) -> FineTuning:
    return FineTuning(epochs, settings.batch_size, lr, seed=seed, precision=settings.precision)


def _reporter(
    stage: str, epochs: int, notify: Listener, watch: Watch | None = None
) -> Callable[[float, float], None]:
    """Tells how far a phase is, with the latest held-out metric, or the training loss."""
    smooth: list[float] = []

    def after_step(progress: float, loss: float) -> None:
        smooth[:] = [0.95 * smooth[0] + 0.05 * loss if smooth else loss]
        epoch = min(epochs, int(progress * epochs) + 1)
        metric = f"loss {smooth[0]:.4f}"
        if watch is not None and watch.latest is not None:
            metric = str(watch.latest)
        notify(Progress(stage, progress, f"epoch {epoch}/{epochs}, {metric}"))

    return after_step
