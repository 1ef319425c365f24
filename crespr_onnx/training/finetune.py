"""The training loop: any imported module, against an objective, for some epochs.

It runs on Hugging Face accelerate: started by its launcher, several processes each take a part of
every batch and average their gradients, so that they make the same steps as one process would.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from crespr_onnx import processes
from crespr_onnx.errors import AccuracyGateError
from crespr_onnx.training.checkpoint import Checkpoint
from crespr_onnx.training.lesson import Lesson
from crespr_onnx.training.together import make_accelerator, on_main
from crespr_onnx.training.watch import Watch, examine

WARM_UP = 0.1
"""Share of the steps over which the learning rate rises."""


@dataclass(frozen=True)
class FineTuning:
    """Settings of one training phase.

    Attributes:
        epochs: passes over the data.
        batch_size: samples per step, all processes together.
        lr: highest learning rate (AdamW); it warms up, then falls to zero on a half cosine.
        weight_decay: decoupled weight decay of the weights, not of biases and norms.
        seed: of the order of the samples.
        precision: "fp32", "bf16" for a forward pass in bfloat16 where that is safe, or "auto":
            bf16 on a GPU, fp32 elsewhere. Weights and optimiser are float32 in any case.
    """

    epochs: int
    batch_size: int = 128
    lr: float = 2e-3
    weight_decay: float = 1e-4
    seed: int = 0
    precision: str = "auto"


def fine_tune(
    module: nn.Module,
    lesson: Lesson,
    settings: FineTuning,
    *,
    before_step: Callable[[float], None] | None = None,
    after_step: Callable[[float, float], None] | None = None,
    checkpoint: Checkpoint | None = None,
    watch: Watch | None = None,
) -> None:
    """Trains a module in place; deterministic by seed on one machine.

    Args:
        module: takes the inputs of a batch in order; on the CPU, and back there at the end.
        lesson: data and objective.
        settings: see `FineTuning`.
        before_step: called with the progress of the phase, 0 to 1.
        after_step: called with the progress and the loss of the step.
        checkpoint: written after each epoch; if it is there already, training goes on from it.
        watch: if given, may end training early; the module gets the weights of its best epoch.

    Raises:
        AccuracyGateError: if the loss is no longer a number, which nothing recovers from.
    """
    # Narrow convolutions train up to twice as fast on a CPU with the channels innermost.
    # Only four axes can be: a volume's five make PyTorch refuse the module.
    if all(tensor.dim() != 5 for tensor in (*module.parameters(), *module.buffers())):
        module.to(memory_format=torch.channels_last)
    machine = make_accelerator(unused_parameters=_has_unused(module, lesson))
    module.to(machine.device)
    # Not wrapped by accelerate, whose wrapper does nothing here but costs more than a small step:
    # gradients are averaged by the module's, and bfloat16 needs no scaling of the loss.
    optimizer = _optimizer(module, settings)
    done_epochs = checkpoint.load(module, optimizer, watch) if checkpoint is not None else 0
    trained = machine.prepare_model(module)
    bf16 = settings.precision == "bf16" or (
        settings.precision == "auto" and machine.device.type == "cuda"
    )
    mine, parts = processes.index(), processes.count()
    per_epoch = lesson.steps(settings.batch_size)
    steps = settings.epochs * per_epoch
    for epoch in range(done_epochs, settings.epochs):
        if watch is not None and watch.tired:
            break
        # Every epoch is seeded by itself, so that it is the same one after a resume.
        torch.manual_seed(settings.seed * 1_000_003 + epoch + mine * 7_368_787)
        rng = np.random.default_rng((settings.seed, epoch))
        trained.train()
        for i, batch in enumerate(lesson.shuffled(settings.batch_size, rng, mine, parts)):
            done = epoch * per_epoch + i
            if before_step is not None:
                before_step(done / steps)
            for group in optimizer.param_groups:
                group["lr"] = settings.lr * learning_rate_factor(done / steps)
            optimizer.zero_grad(set_to_none=True)
            batch = batch.to(machine.device)
            loss = lesson.objective.loss(_forward(trained, batch.inputs, bf16), batch)
            if parts > 1:
                # The mean over processes of unequal parts is the mean over the whole batch.
                whole = min(settings.batch_size, len(lesson.samples))
                loss = loss * (len(batch.inputs[0]) * parts / whole)
            machine.backward(loss)
            optimizer.step()
            value = float(machine.reduce(loss.detach(), "mean") if parts > 1 else loss.detach())
            if not math.isfinite(value):
                raise AccuracyGateError(
                    f"training diverged: the loss is {value} in step {done + 1} of {steps}; "
                    "lower --lr"
                )
            if after_step is not None:
                after_step((done + 1) / steps, value)
        if watch is not None:
            watch.note(on_main(lambda: watch.examine(module)), module)
        if checkpoint is not None:
            _save(checkpoint, module, optimizer, epoch + 1, watch)
    if watch is not None:
        watch.restore(module)
    module.to("cpu")


def mean_loss(module: nn.Module, lesson: Lesson, batch_size: int = 256) -> float:
    """Loss over a whole lesson, in inference mode."""
    return examine(module, lesson, batch_size).loss


def _save(
    checkpoint: Checkpoint,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    epochs_done: int,
    watch: Watch | None,
) -> None:
    on_main(lambda: checkpoint.save(module, optimizer, epochs_done, watch))


def _forward(module: nn.Module, inputs: tuple[torch.Tensor, ...], bf16: bool) -> Any:  # noqa: ANN401
    """The outputs in float32."""
    if not bf16:
        return module(*inputs)
    with torch.autocast(inputs[0].device.type, dtype=torch.bfloat16):
        outputs = module(*inputs)
    if isinstance(outputs, tuple | list):
        return tuple(_float(output) for output in outputs)
    return _float(outputs)


def _float(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.dtype == torch.bfloat16 else tensor


def _has_unused(module: nn.Module, lesson: Lesson) -> bool:
    """Whether the loss leaves parameters without a gradient, which several processes must know.

    The search for them costs time in every step, so it is made only where it is needed.
    """
    if processes.count() == 1:
        return False
    module.eval()  # the statistics of BatchNorm must not see this
    batch = lesson.batch(np.arange(min(2, len(lesson.samples))))
    torch.autograd.backward(lesson.objective.loss(module(*batch.inputs), batch))
    unused = any(p.grad is None for p in module.parameters() if p.requires_grad)
    module.zero_grad(set_to_none=True)
    return unused


def _optimizer(module: nn.Module, settings: FineTuning) -> torch.optim.Optimizer:
    decayed = [p for p in module.parameters() if p.ndim > 1]
    others = [p for p in module.parameters() if p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    # In one pass over each tensor: the usual kernels take four times as long for roots of zeros as
    # for others, and a restricted model has many. It reads memory in order, whatever the strides.
    in_order = all(p.device.type == "cpu" and p.is_contiguous() for p in (*decayed, *others))
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=settings.lr, fused=in_order)


def learning_rate_factor(progress: float) -> float:
    """Linear warm-up, then half a cosine to zero; 1 at its highest."""
    if progress < WARM_UP:
        return max(progress, 1e-3) / WARM_UP
    return 0.5 * (1.0 + math.cos(math.pi * (progress - WARM_UP) / (1.0 - WARM_UP)))
