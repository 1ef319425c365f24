"""Unstructured magnitude pruning: what unlimited freedom of placement gives.

Nothing becomes smaller or faster by it: a dense runtime stores and multiplies the zeros, which are
counted as gone all the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from accuracy_methods.task import Outcome, Task
from crespr_onnx.layout import BoolArray, ChannelGraph
from crespr_onnx.training.finetune import FineTuning, fine_tune
from crespr_onnx.training.importer import ImportedModel, import_model
from crespr_onnx.training.matrices import weight_mask

UPDATES = 200
"""New masks while weights leave."""


class Pruner:
    """Masks on all weighted edges of a model; what is masked once stays masked.

    Args:
        imported: the model.
        graph: its channels.
        allowed: edge name -> connections that may stay, [n_out, n_in]; by default all.
    """

    def __init__(
        self,
        imported: ImportedModel,
        graph: ChannelGraph,
        allowed: Mapping[str, BoolArray] | None = None,
    ) -> None:
        self._weights: list[torch.Tensor] = []
        self._masks: list[torch.Tensor] = []
        self._fixed = graph.opaque_weights
        for edge in {edge.weight: edge for edge in graph.edges}.values():
            weight = imported.tensor(edge.weight)
            mask = np.ones((len(edge.out_channels), len(edge.in_channels)), dtype=np.bool_)
            if allowed is not None:
                mask = allowed[edge.name]
            self._weights.append(weight)
            self._masks.append(weight_mask(imported, edge, mask).expand(weight.shape).clone())
        self._whole = self.kept
        self._updates = 0
        self.apply()

    @property
    def kept(self) -> int:
        """Weights that are not masked."""
        return self._fixed + sum(int(mask.sum()) for mask in self._masks)

    @torch.no_grad()
    def apply(self) -> None:
        """Sets what is masked to zero."""
        for weight, mask in zip(self._weights, self._masks, strict=True):
            weight.mul_(mask.to(weight.device))

    @torch.no_grad()
    def cut(self, keep: int) -> None:
        """Keeps the largest magnitudes of all edges together, exactly so many of them."""
        pairs = list(zip(self._weights, self._masks, strict=True))
        scores = torch.cat([torch.where(m, w.cpu().abs(), -1.0).flatten() for w, m in pairs])
        mask = torch.zeros(len(scores), dtype=torch.bool)
        # No cut gives back what another took.
        mask[scores.topk(min(keep, self.kept) - self._fixed).indices] = True
        parts = torch.split(mask, [m.numel() for m in self._masks])
        self._masks = [part.view_as(m) for part, m in zip(parts, self._masks, strict=True)]
        self.apply()

    def step(self, progress: float, keep: int) -> None:
        """Cuts on the cubic schedule (Zhu and Gupta 2017, arXiv 1710.01878, equation 1).

        Args:
            progress: of the phase in which weights leave, 0 to 1; nothing leaves after 1.
            keep: how many weights stay in the end.
        """
        updates = min(UPDATES, int(progress * UPDATES) + 1)
        if updates > self._updates:
            self._updates = updates
            left = (1.0 - updates / UPDATES) ** 3
            self.cut(keep + round((self._whole - keep) * left))


def prune_gradually(
    task: Task, imported: ImportedModel, pruner: Pruner, phase: FineTuning, keep: int, until: float
) -> Outcome:
    """Trains while weights leave, and then for the rest of the phase.

    Args:
        task: data, and where the weights go back to.
        imported: the model.
        pruner: the masks of its weights.
        phase: of training.
        keep: how many weights stay.
        until: share of the phase after which no weight leaves any more.
    """

    def prune(progress: float) -> None:
        pruner.step(progress / until, keep)

    def mask(progress: float, loss: float) -> None:
        pruner.apply()

    fine_tune(imported.module, task.lesson, phase, before_step=prune, after_step=mask)
    return masked_outcome(task, imported, pruner)


def masked_outcome(task: Task, imported: ImportedModel, pruner: Pruner) -> Outcome:
    """Measures a masked model as it is now."""
    model = task.dense.clone(deep_copy=True)
    imported.write_back(model)
    return Outcome(task.accuracy(model), pruner.kept)


@dataclass(frozen=True)
class Unstructured:
    """Gradual pruning by global magnitude (arXiv 1710.01878), then fine-tuning, in one phase.

    It has a learning rate of its own, for the large network that it trains is spoilt by rates that
    a small one needs, and a baseline must not lose by what suits its rival.

    Attributes:
        lr: highest learning rate.
        until: share of the training in which weights leave.
    """

    lr: float = 1e-3
    until: float = 0.4
    trains: bool = True

    def run(self, task: Task, ratio: float, seed: int) -> Outcome:
        """See `Method.run`."""
        imported = import_model(task.dense)
        pruner = Pruner(imported, task.prepared.graph)
        phase = FineTuning(task.epochs, task.batch_size, self.lr, seed=seed)
        return prune_gradually(task, imported, pruner, phase, task.budget(ratio), self.until)


@dataclass(frozen=True)
class OneShotMagnitude:
    """Global magnitude at once, without training or data."""

    trains: bool = False

    def run(self, task: Task, ratio: float, seed: int) -> Outcome:
        """See `Method.run`; nothing is random here."""
        imported = import_model(task.dense)
        pruner = Pruner(imported, task.prepared.graph)
        pruner.cut(task.budget(ratio))
        return masked_outcome(task, imported, pruner)
