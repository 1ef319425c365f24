"""Unstructured gradual global magnitude pruning, the baseline that clusters are held against.

    python samples/benchmarks/magnitude_baseline.py MODEL.onnx --data DIR --ratio 0.98 --epochs 6

Zhu and Gupta, "To prune, or not to prune" (arXiv 1710.01878, equation 1): the share of weights that
are zero rises on a cubic schedule while the model trains; one magnitude threshold serves all
layers. The dense model is the teacher, as in crespr-onnx, so both see the same epochs and the same
loss. The zeros are counted as gone although a dense runtime still stores and multiplies them: this
is the accuracy that an unlimited freedom of placement would give, not a smaller or faster model.

Prints one JSON line.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx2torch import convert
from torch import nn
from torch.nn import functional

Tensors = tuple[torch.Tensor, torch.Tensor]


def sparsity_at(step: int, begin: int, end: int, final: float) -> float:
    """Share of zeros at a step: equation 1 of arXiv 1710.01878 with initial sparsity 0."""
    progress = min(max((step - begin) / max(end - begin, 1), 0.0), 1.0)
    return final * (1.0 - (1.0 - progress) ** 3)


def prunable(model: nn.Module) -> list[nn.Parameter]:
    """Weights of the linear and convolution layers; biases and BatchNorm stay."""
    layers = (nn.Linear, nn.Conv1d, nn.Conv2d)
    return [module.weight for module in model.modules() if isinstance(module, layers)]


@torch.no_grad()
def global_masks(weights: list[nn.Parameter], sparsity: float) -> list[torch.Tensor]:
    """Masks that keep the largest magnitudes of all layers together (exactly that many)."""
    scores = torch.cat([w.abs().flatten() for w in weights])
    mask = torch.zeros_like(scores)
    mask[scores.topk(round(len(scores) * (1.0 - sparsity))).indices] = 1.0
    parts = mask.split([w.numel() for w in weights])
    return [part.view_as(w) for part, w in zip(parts, weights, strict=True)]


@torch.no_grad()
def apply_masks(weights: list[nn.Parameter], masks: list[torch.Tensor]) -> None:
    """Sets the masked weights to zero; a weight that is gone stays gone."""
    for weight, mask in zip(weights, masks, strict=True):
        weight.mul_(mask)


@torch.no_grad()
def logits_of(model: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """Outputs for all samples, in inference mode."""
    model.eval()
    return torch.cat([model(part) for part in inputs.split(512)])


def prune(model: nn.Module, data: Tensors, args: argparse.Namespace) -> list[nn.Parameter]:
    """Trains and prunes together; returns the pruned weights."""
    inputs, labels = data
    teacher = logits_of(model, inputs)
    weights = prunable(model)
    per_epoch = -(-len(inputs) // args.batch_size)
    steps = args.epochs * per_epoch
    end = round(steps * args.prune_share)
    optimiser = torch.optim.Adam(model.parameters(), lr=args.lr)
    # The rate stays level while weights leave, then falls to zero.
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1.0, (steps - step) / max(steps - end, 1))
    )
    masks = global_masks(weights, 0.0)
    model.train()
    for step in range(steps):
        if step % per_epoch == 0:
            order = torch.randperm(len(inputs)).split(args.batch_size)
        rows = order[step % per_epoch]
        if step % args.interval == 0 or step == end:
            masks = global_masks(weights, sparsity_at(step, 0, end, args.ratio))
            apply_masks(weights, masks)
        output = model(inputs[rows])
        soft = functional.kl_div(
            functional.log_softmax(output / args.temperature, 1),
            functional.log_softmax(teacher[rows] / args.temperature, 1),
            reduction="batchmean",
            log_target=True,
        )
        loss = args.alpha * args.temperature**2 * soft
        loss = loss + (1.0 - args.alpha) * functional.cross_entropy(output, labels[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        apply_masks(weights, masks)
    return weights


def load(path: Path) -> Tensors:
    """Inputs and labels of a data file."""
    with np.load(path, allow_pickle=False) as arrays:
        return torch.from_numpy(arrays["input"]), torch.from_numpy(arrays["labels"])


def accuracy(model: nn.Module, data: Tensors) -> float:
    """Share of samples whose largest logit is the label's."""
    return float((logits_of(model, data[0]).argmax(1) == data[1]).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder with train and eval .npz")
    parser.add_argument("--ratio", type=float, required=True, help="final share of zeros")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--interval", type=int, default=20, help="steps between two new masks")
    parser.add_argument("--prune-share", type=float, default=0.6, help="share of steps that prune")
    parser.add_argument("--alpha", type=float, default=0.5, help="weight of distillation")
    parser.add_argument("--temperature", type=float, default=4.0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    model = convert(onnx.load(args.model))
    train_data, eval_data = load(args.data / "train.npz"), load(args.data / "eval.npz")
    dense = accuracy(model, eval_data)
    start = time.perf_counter()
    weights = prune(model, train_data, args)
    seconds = time.perf_counter() - start
    total = sum(w.numel() for w in weights)
    kept = sum(int(torch.count_nonzero(w)) for w in weights)
    line = {
        "method": "gradual global magnitude, unstructured",
        "model": args.model.name,
        "ratio": args.ratio,
        "epochs": args.epochs,
        "seed": args.seed,
        "weights": total,
        "weights_kept": kept,
        "accuracy_dense": round(dense, 4),
        "accuracy": round(accuracy(model, eval_data), 4),
        "seconds": round(seconds, 1),
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
