"""Training as `compress` does it: the same phases, rates and order of the samples."""

import tempfile
from pathlib import Path

import onnx_ir as ir

from accuracy_methods.task import Outcome, Task
from crespr_onnx.graph.accounting import stored_weights
from crespr_onnx.layout import Layout
from crespr_onnx.progress import silent
from crespr_onnx.settings import CompressSettings
from crespr_onnx.stages.lower import finish, split
from crespr_onnx.stages.masking import masked_copy
from crespr_onnx.stages.train import RESTRICT_LR, restrict_epochs, tune
from crespr_onnx.training.finetune import FineTuning, fine_tune
from crespr_onnx.training.importer import import_model


def training_phases(task: Task, settings: CompressSettings) -> list[FineTuning]:
    """The phases of `compress`: restriction, if there are steps for it, and fine-tuning."""
    first = restrict_epochs(settings.epochs, task.lesson.steps(settings.batch_size))
    both = [
        FineTuning(first, settings.batch_size, settings.lr * RESTRICT_LR, seed=settings.seed),
        FineTuning(
            settings.epochs - first, settings.batch_size, settings.lr, seed=settings.seed + 1
        ),
    ]
    return [phase for phase in both if phase.epochs]


def shrunk_outcome(task: Task, layout: Layout, settings: CompressSettings) -> Outcome:
    """Cuts the dense model down to a layout at once, trains what is left, and measures it."""
    graph = task.prepared.graph
    small = split(masked_copy(task.dense, graph, layout), graph, layout)
    if settings.epochs:
        imported = import_model(small)
        phase = FineTuning(settings.epochs, settings.batch_size, settings.lr, seed=settings.seed)
        fine_tune(imported.module, task.lesson, phase)
        imported.write_back(small)
    return small_outcome(task, small)


def tuned_outcome(
    task: Task, masked: ir.Model, layout: Layout, settings: CompressSettings
) -> Outcome:
    """Splits a restricted model, and fine-tunes it for the epochs that restriction left."""
    small = split(masked, task.prepared.graph, layout)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "tune.safetensors"
        return small_outcome(task, tune(small, task.lesson, settings, checkpoint, silent))


def small_outcome(task: Task, small: ir.Model) -> Outcome:
    """Measures a small model in its final form."""
    model = finish(small, "grouped")
    return Outcome(task.accuracy(model), stored_weights(model))
