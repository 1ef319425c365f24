"""Watches training on held-out samples, and keeps the weights of the best epoch.

Early stopping as in Prechelt, "Early Stopping - But When?" (1998): training ends after a number of
epochs without a lower held-out loss, and goes back to where that was lowest.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from crespr_onnx.training.lesson import Lesson


@dataclass(frozen=True)
class Marks:
    """How a model does on a lesson.

    Attributes:
        loss: mean loss per sample.
        accuracy: share of right classes, or None where nothing is classified or labelled.
    """

    loss: float
    accuracy: float | None

    def __str__(self) -> str:
        if self.accuracy is None:
            return f"held-out loss {self.loss:.4f}"
        return f"held-out accuracy {self.accuracy:.4f}"


def examine(module: nn.Module, lesson: Lesson, batch_size: int = 256) -> Marks:
    """Marks over a whole lesson; the module is left in inference mode."""
    module.eval()
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    total, right, n = 0.0, 0, len(lesson.samples)
    graded = lesson.objective.classifier and lesson.samples.labels is not None
    with torch.no_grad():
        for start in range(0, n, batch_size):
            batch = lesson.batch(np.arange(start, min(start + batch_size, n))).to(device)
            outputs = module(*batch.inputs)
            total += float(lesson.objective.loss(outputs, batch)) * len(batch.inputs[0])
            if graded:
                scores = outputs[0] if isinstance(outputs, tuple | list) else outputs
                right += int((scores.argmax(dim=1) == batch.labels).sum())
    return Marks(total / n, right / n if graded else None)


class Watch:
    """Examines a module after every epoch.

    Args:
        exam: samples that training does not see.
        patience: epochs without a lower loss after which training ends.

    Attributes:
        latest: the marks after the last epoch.
    """

    def __init__(self, exam: Lesson, patience: int) -> None:
        self._exam = exam
        self._patience = patience
        self._lowest = math.inf
        self._waited = 0
        self._best: dict[str, torch.Tensor] = {}
        self.latest: Marks | None = None

    @property
    def tired(self) -> bool:
        """Whether enough epochs have passed without a lower loss."""
        return self._waited >= self._patience

    def examine(self, module: nn.Module) -> Marks:
        """Marks of a module as it is now."""
        return examine(module, self._exam)

    def note(self, marks: Marks, module: nn.Module) -> None:
        """Takes in the marks of an epoch, and keeps the weights if no epoch had better ones."""
        self.latest = marks
        self._waited += 1
        if marks.loss < self._lowest:
            self._lowest, self._waited = marks.loss, 0
            self._best = {n: t.detach().clone() for n, t in module.state_dict().items()}

    def restore(self, module: nn.Module) -> None:
        """Puts the best weights back."""
        if self._best:
            module.load_state_dict(self._best)

    def state(self) -> dict[str, torch.Tensor]:
        """What has been seen so far, for a checkpoint."""
        numbers = {
            "lowest": torch.tensor(self._lowest, dtype=torch.float64),
            "waited": torch.tensor(self._waited),
        }
        return numbers | {f"best.{name}": tensor for name, tensor in self._best.items()}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Takes up what `state` gave."""
        self._lowest, self._waited = float(state["lowest"]), int(state["waited"])
        best = "best."
        self._best = {n.removeprefix(best): t for n, t in state.items() if n.startswith(best)}
