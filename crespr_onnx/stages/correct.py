"""Corrects a model that was cut: weights re-fitted, statistics re-estimated, if that helps."""

from dataclasses import dataclass

import onnx_ir as ir
import torch

from crespr_onnx.layout import ChannelGraph, Layout
from crespr_onnx.progress import Listener, Progress
from crespr_onnx.settings import CompressSettings
from crespr_onnx.training.calibration import width_of
from crespr_onnx.training.importer import ImportedModel, import_model
from crespr_onnx.training.lesson import Lesson
from crespr_onnx.training.objective import Batch
from crespr_onnx.training.offsets import find_offsets
from crespr_onnx.training.patches import POSITIONS
from crespr_onnx.training.reestimate import reestimate_batch_norm
from crespr_onnx.training.refit import Refit, refit

ROWS_PER_INPUT = 4
"""Rows per input of a layer that a re-fit wants: with fewer it learns the samples by heart."""
SAMPLES = (512, 4096)
"""Fewest and most samples that weights are re-fitted on, if there are as many."""


@dataclass(frozen=True)
class Correction:
    """What a correction did.

    Attributes:
        model: the corrected model, or the one that was given if that answers better.
        refit: the re-fit, layer by layer.
        before: loss on the calibration batches of the model that was given.
        after: that of the corrected one.
    """

    model: ir.Model
    refit: Refit
    before: float
    after: float

    @property
    def helped(self) -> bool:
        """Whether the corrected model answers better; what is no number does not."""
        return self.after < self.before


def correct(
    dense: ir.Model,
    masked: ir.Model,
    graph: ChannelGraph,
    layout: Layout,
    lesson: Lesson,
    settings: CompressSettings,
    notify: Listener,
) -> Correction:
    """Gives a masked model the weights with which its layers answer most like the dense one's.

    Layer by layer that is the best that can be done, for the whole it need not be: weights that
    were trained under their mask for long may know better. So the loss decides.

    Args:
        dense: the model as it was.
        masked: the same with zeros outside the layout, perhaps trained; it is left as it is.
        graph: channels of both.
        layout: what is kept.
        lesson: data and loss; labels are not needed.
        settings: batch size.
        notify: told about progress.
    """
    samples = samples_for(graph)
    size = min(settings.batch_size, samples)
    batches = lesson.calibration(size, -(-samples // size))
    source, target = import_model(dense), import_model(masked)
    masks = {edge.name: layout.edge_mask(graph, edge) for edge in graph.edges}
    before = _loss(target, lesson, batches)
    found = refit(
        source,
        target,
        graph,
        masks,
        find_offsets(masked, graph),
        batches,
        done=lambda share: notify(Progress("re-fitting the kept weights", share)),
    )
    reestimate_batch_norm(target.module, batches)
    corrected = masked.clone(deep_copy=True)
    target.write_back(corrected)
    outcome = Correction(corrected, found, before, _loss(target, lesson, batches))
    return outcome if outcome.helped else Correction(masked, found, before, outcome.after)


def samples_for(graph: ChannelGraph) -> int:
    """How many samples a re-fit wants: a layer sees as many rows of each as it has positions."""
    wanted = [
        ROWS_PER_INPUT * width_of(edge) // min(edge.positions, POSITIONS)
        for edge in graph.edges
        if edge.frozen is None
    ]
    fewest, most = SAMPLES
    return min(max([fewest, *wanted]), most)


def _loss(imported: ImportedModel, lesson: Lesson, batches: list[Batch]) -> float:
    imported.module.eval()
    with torch.no_grad():
        losses = [lesson.objective.loss(imported.module(*b.inputs), b) for b in batches]
    return float(torch.stack(losses).mean())
