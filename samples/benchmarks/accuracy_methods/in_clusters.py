"""Unstructured pruning inside clusters: what the block structure costs."""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from accuracy_methods.crespr import chosen_plan
from accuracy_methods.magnitude import Pruner, Unstructured, prune_gradually
from accuracy_methods.task import Outcome, Task
from crespr_onnx.progress import silent
from crespr_onnx.stages.train import restrict, restrict_epochs
from crespr_onnx.training.finetune import FineTuning
from crespr_onnx.training.importer import import_model


@dataclass(frozen=True)
class UnstructuredInClusters:
    """Crespr's restriction to more weights, then gradual magnitude among these.

    The restriction takes its usual epochs; the others go to gradual pruning as in `Unstructured`,
    but inside the clusters.

    Attributes:
        spare: weights inside the clusters for each that stays.
        gradual: how these are pruned.
    """

    spare: float = 2.0
    gradual: Unstructured = field(default_factory=Unstructured)
    trains: bool = True

    def run(self, task: Task, ratio: float, seed: int) -> Outcome:
        """See `Method.run`."""
        graph = task.prepared.graph
        wide = task.settings(1.0 - self.spare * (1.0 - ratio), seed)
        plan = chosen_plan(task, wide)
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = Path(folder) / "restrict.safetensors"
            masked, layout = restrict(
                task.dense, graph, plan, task.lesson, wide, checkpoint, silent
            )
        allowed = {edge.name: layout.edge_mask(graph, edge) for edge in graph.edges}
        imported = import_model(masked)
        pruner = Pruner(imported, graph, allowed)
        epochs = task.epochs - restrict_epochs(task.epochs, task.lesson.steps(task.batch_size))
        phase = FineTuning(epochs, task.batch_size, self.gradual.lr, seed=seed + 1)
        keep = task.budget(ratio)
        return prune_gradually(task, imported, pruner, phase, keep, self.gradual.until)
