"""The product, as a user runs it, with and without training."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from accuracy_methods.task import Outcome, Task
from accuracy_methods.training import shrunk_outcome
from crespr_onnx import CompressSettings, CresprError, compress
from crespr_onnx.progress import silent
from crespr_onnx.stages import plan_layout
from crespr_onnx.stages.choose_plan import choose_plan
from crespr_onnx.stages.train import score


@dataclass(frozen=True)
class Crespr:
    """`crespr-onnx compress`; accuracy and weights are those of its report.

    Attributes:
        trains: whether it does, or cuts at once and re-fits what is left (`--epochs 0`).
    """

    trains: bool = True

    def run(self, task: Task, ratio: float, seed: int) -> Outcome:
        """See `Method.run`."""
        epochs = task.epochs if self.trains else 0
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "compressed"
            report = compress(task.settings(ratio, seed, epochs=epochs, output=output))
        if report.exit_code != 0 or report.metric is None or report.ratio is None:
            raise CresprError("; ".join(report.reasons))
        return Outcome(report.metric.compressed, report.ratio.weights_after)


@dataclass(frozen=True)
class OneShotNoRefit:
    """What `crespr-onnx compress --epochs 0` chooses to keep, with its weights as they were."""

    trains: bool = False

    def run(self, task: Task, ratio: float, seed: int) -> Outcome:
        """See `Method.run`."""
        settings = task.settings(ratio, seed, epochs=0)
        return shrunk_outcome(task, chosen_plan(task, settings).layout, settings)


def chosen_plan(task: Task, settings: CompressSettings) -> plan_layout.LayoutPlan:
    """The plan that `compress` would choose.

    Raises:
        CresprError: if no layout reaches the ratio.
    """
    dense, graph = task.dense, task.prepared.graph
    plan_layout.check_ratio(graph, settings)
    scores = score(dense, graph, task.lesson, settings)
    plans = plan_layout.possible_plans(graph, settings, scores)
    return choose_plan(dense, graph, plans, task.lesson, settings, silent)
