"""What fine-tuning minimises: the labels' cross-entropy and the distance to the dense model."""

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional


@dataclass(frozen=True, eq=False)
class Batch:
    """One batch on its way through training.

    Attributes:
        inputs: the model's inputs in order, each [batch, ...].
        targets: what the dense model answers, per output, None where that teaches nothing.
        labels: class per sample, shape [batch], or None.
    """

    inputs: tuple[torch.Tensor, ...]
    targets: tuple[torch.Tensor | None, ...]
    labels: torch.Tensor | None

    def to(self, device: torch.device) -> "Batch":
        """The batch on another device; itself where it is there already."""
        if all(tensor.device == device for tensor in self.inputs):
            return self
        return Batch(
            tuple(tensor.to(device) for tensor in self.inputs),
            tuple(None if t is None else t.to(device) for t in self.targets),
            None if self.labels is None else self.labels.to(device),
        )


@dataclass(frozen=True)
class Objective:
    """Distillation from the dense model, with the labels where there are any.

    For a classifier: Kullback-Leibler divergence at a temperature T, times T^2 (Hinton et al. 2015,
    arXiv 1503.02531, section 2.1), plus cross-entropy. For any other output: squared distance over
    the variance of what the dense model answers.

    Attributes:
        classifier: whether the first output holds one score per class, shape [batch, classes].
        probabilities: whether those scores have been through a softmax already.
        temperature: T.
        label_weight: share of the cross-entropy, the rest being distillation.
        variances: per output the variance of the dense model's answers, so that every batch, and
            every part of one, is measured alike; without them those of the batch are taken.
    """

    classifier: bool
    probabilities: bool = False
    temperature: float = 3.0
    label_weight: float = 0.3
    variances: tuple[float, ...] = ()

    def loss(self, outputs: Any, batch: Batch) -> torch.Tensor:  # noqa: ANN401
        """Mean loss of a batch.

        Args:
            outputs: what the imported model returned: a tensor, or a sequence of them.
            batch: the batch that it was given.
        """
        answers = outputs if isinstance(outputs, tuple | list) else (outputs,)
        triples = [
            (a, t, v)
            for a, t, v in zip(
                answers, batch.targets, self.variances or [None] * len(answers), strict=True
            )
            if t is not None
        ]
        if not self.classifier:
            return torch.stack([_relative_error(*triple) for triple in triples]).mean()
        scores, target = map(self._logits, triples[0][:2])
        t = self.temperature
        distillation = (
            t
            * t
            * functional.kl_div(
                functional.log_softmax(scores / t, dim=1),
                functional.log_softmax(target / t, dim=1),
                reduction="batchmean",
                log_target=True,
            )
        )
        if batch.labels is None:
            return distillation
        hard = functional.cross_entropy(scores, batch.labels)
        return self.label_weight * hard + (1.0 - self.label_weight) * distillation

    def _logits(self, scores: torch.Tensor) -> torch.Tensor:
        # The softmax of log p is p.
        return scores.clamp_min(1e-12).log() if self.probabilities else scores


def _relative_error(
    answer: torch.Tensor, target: torch.Tensor, variance: float | None
) -> torch.Tensor:
    scale = target.var(correction=0) if variance is None else variance
    return functional.mse_loss(answer, target) / (scale + 1e-12)
