"""Trains the MLP 784-300-100-10 of the benchmarks on MNIST and exports it as ONNX.

    python samples/benchmarks/train_mlp.py --data OUT/mlp --out OUT/mlp.onnx

OUT/mlp is what ``prepare_data.py`` wrote. Takes half a minute on one core.
"""

import argparse
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import nn
from torch.nn import functional


def make_mlp() -> nn.Sequential:
    """LeNet-300-100: LeCun et al., "Gradient-based learning applied to document recognition"."""
    return nn.Sequential(
        nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10)
    )


def load(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs float32 [n, 784] and labels int64 [n]."""
    with np.load(path, allow_pickle=False) as arrays:
        return torch.from_numpy(arrays["input"]), torch.from_numpy(arrays["labels"])


def train(
    model: nn.Module, inputs: torch.Tensor, labels: torch.Tensor, epochs: int, batch: int, lr: float
) -> None:
    """Adam with a one-cycle learning rate, cross-entropy."""
    steps = epochs * (len(inputs) // batch)
    optimiser = torch.optim.Adam(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=lr, total_steps=steps)
    model.train()
    for epoch in range(epochs):
        for rows in torch.randperm(len(inputs))[: len(inputs) // batch * batch].split(batch):
            loss = functional.cross_entropy(model(inputs[rows]), labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        print(f"epoch {epoch + 1}/{epochs}: last loss {loss.item():.4f}", flush=True)


def export(model: nn.Module, path: Path) -> None:
    """Writes the model with a dynamic batch axis, input ``input``, output ``logits``."""
    torch.onnx.export(
        model.eval(),
        (torch.zeros(2, 784),),
        str(path),
        dynamo=False,
        opset_version=17,
        do_constant_folding=False,
        input_names=["input"],
        output_names=["logits"],
        dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}},
    )
    onnx.checker.check_model(onnx.load(path), full_check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with train and eval .npz")
    parser.add_argument("--out", type=Path, required=True, help="the ONNX file to write")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    model = make_mlp()
    train(model, *load(args.data / "train.npz"), args.epochs, args.batch_size, args.lr)
    export(model, args.out)
    inputs, labels = load(args.data / "eval.npz")
    session = ort.InferenceSession(str(args.out), providers=["CPUExecutionProvider"])
    logits = session.run(["logits"], {"input": inputs.numpy()})[0]
    accuracy = float(np.mean(logits.argmax(1) == labels.numpy()))
    print(f"{args.out}: test accuracy {accuracy:.4f} in ONNX Runtime")


if __name__ == "__main__":
    main()
