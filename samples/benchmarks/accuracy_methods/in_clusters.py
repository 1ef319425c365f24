"""Unstructured pruning inside clusters: what the block structure costs."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from accuracy_methods.crespr import chosen_plan
from accuracy_methods.magnitude import Pruner, prune_gradually
from accuracy_methods.task import Outcome, Task
from accuracy_methods.training import training_phases
from crespr_onnx.progress import silent
from crespr_onnx.stages.train import restrict
from crespr_onnx.training.importer import import_model


@dataclass(frozen=True)
class UnstructuredInClusters:
    """Crespr's restriction to more weights, then gradual magnitude among these.

    The restriction takes its usual epochs; the masks inside the clusters close while crespr would
    fine-tune the small model, and stay for the rest of that phase.

    Attributes:
        spare: weights inside the clusters for each that stays.
    """

    spare: float = 2.0
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
        phases = training_phases(wide)[-1:]
        return prune_gradually(task, imported, pruner, phases, task.budget(ratio))
