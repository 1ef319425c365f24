"""The training loop: any imported module, against an objective, for some epochs."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from crespr_onnx.errors import AccuracyGateError
from crespr_onnx.training.checkpoint import Checkpoint
from crespr_onnx.training.lesson import Lesson

WARM_UP = 0.1
"""Share of the steps over which the learning rate rises."""


@dataclass(frozen=True)
class FineTuning:
    """Settings of one training phase.

    Attributes:
        epochs: passes over the data.
        batch_size: samples per step.
        lr: highest learning rate (AdamW); it warms up, then falls to zero on a half cosine.
        weight_decay: decoupled weight decay of the weights, not of biases and norms.
        seed: of the order of the samples.
    """

    epochs: int
    batch_size: int = 128
    lr: float = 2e-3
    weight_decay: float = 1e-4
    seed: int = 0


def fine_tune(
    module: nn.Module,
    lesson: Lesson,
    settings: FineTuning,
    *,
    before_step: Callable[[float], None] | None = None,
    after_step: Callable[[float, float], None] | None = None,
    checkpoint: Checkpoint | None = None,
) -> None:
    """Trains a module in place; deterministic by seed on one machine.

    Args:
        module: takes the inputs of a batch in order.
        lesson: data and objective.
        settings: see `FineTuning`.
        before_step: called with the progress of the phase, 0 to 1.
        after_step: called with the progress and the loss of the step.
        checkpoint: written after each epoch; if it is there already, training goes on from it.

    Raises:
        AccuracyGateError: if the loss is no longer a number, which nothing recovers from.
    """
    # Narrow convolutions train up to twice as fast on a CPU with the channels innermost.
    # Only four axes can be: a volume's five make PyTorch refuse the module.
    if all(tensor.dim() != 5 for tensor in (*module.parameters(), *module.buffers())):
        module.to(memory_format=torch.channels_last)
    optimizer = _optimizer(module, settings)
    done_epochs = checkpoint.load(module, optimizer) if checkpoint is not None else 0
    per_epoch = lesson.steps(settings.batch_size)
    steps = settings.epochs * per_epoch
    for epoch in range(done_epochs, settings.epochs):
        # Every epoch is seeded by itself, so that it is the same one after a resume.
        torch.manual_seed(settings.seed * 1_000_003 + epoch)
        rng = np.random.default_rng((settings.seed, epoch))
        module.train()
        for i, batch in enumerate(lesson.shuffled(settings.batch_size, rng)):
            done = epoch * per_epoch + i
            if before_step is not None:
                before_step(done / steps)
            for group in optimizer.param_groups:
                group["lr"] = settings.lr * learning_rate_factor(done / steps)
            optimizer.zero_grad(set_to_none=True)
            loss = lesson.objective.loss(module(*batch.inputs), batch)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            value = float(loss.detach())
            if not math.isfinite(value):
                raise AccuracyGateError(
                    f"training diverged: the loss is {value} in step {done + 1} of {steps}; "
                    "lower --lr"
                )
            if after_step is not None:
                after_step((done + 1) / steps, value)
        if checkpoint is not None:
            checkpoint.save(module, optimizer, epoch + 1)


def mean_loss(module: nn.Module, lesson: Lesson, batch_size: int = 256) -> float:
    """Loss over a whole lesson, in inference mode."""
    module.eval()
    total, n = 0.0, len(lesson.samples)
    with torch.no_grad():
        for start in range(0, n, batch_size):
            batch = lesson.batch(np.arange(start, min(start + batch_size, n)))
            loss = lesson.objective.loss(module(*batch.inputs), batch)
            total += float(loss) * len(batch.inputs[0])
    return total / n


def _optimizer(module: nn.Module, settings: FineTuning) -> torch.optim.Optimizer:
    decayed = [p for p in module.parameters() if p.ndim > 1]
    others = [p for p in module.parameters() if p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=settings.lr)


def learning_rate_factor(progress: float) -> float:
    """Linear warm-up, then half a cosine to zero; 1 at its highest."""
    if progress < WARM_UP:
        return max(progress, 1e-3) / WARM_UP
    return 0.5 * (1.0 + math.cos(math.pi * (progress - WARM_UP) / (1.0 - WARM_UP)))
