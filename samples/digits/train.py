"""Trains the digits sample: a small CNN on scikit-learn's 8x8 digits, exported as ONNX.

    python samples/digits/train.py

Writes ``digits.onnx``, ``train.npz`` and ``eval.npz`` beside itself (they are committed, so this
runs only to make them anew). Takes half a minute on one core.
"""

import argparse
from collections import OrderedDict
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional

HERE = Path(__file__).resolve().parent


def make_cnn() -> nn.Sequential:
    """Three convolutions with BatchNorm and two linear layers: 89,632 weights, input 8x8."""

    layers: dict[str, nn.Module] = {}
    for i, (n_in, n_out) in enumerate([(1, 32), (32, 64), (64, 64)], start=1):
        layers[f"conv{i}"] = nn.Conv2d(n_in, n_out, 3, padding=1, bias=False)
        layers[f"norm{i}"] = nn.BatchNorm2d(n_out)
        layers[f"relu{i}"] = nn.ReLU()
        if i > 1:
            layers[f"pool{i}"] = nn.MaxPool2d(2)
    layers["flatten"] = nn.Flatten()
    layers["linear1"] = nn.Linear(64 * 2 * 2, 128)
    layers["relu4"] = nn.ReLU()
    layers["linear2"] = nn.Linear(128, 10)
    return nn.Sequential(OrderedDict(layers))


def load_split(seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Images float32 [n, 1, 8, 8] in 0..1 and labels int64 [n], four fifths of them to train on."""
    digits = load_digits()
    images = (digits.images / 16.0).astype(np.float32)[:, None]
    labels = digits.target.astype(np.int64)
    train_x, eval_x, train_y, eval_y = train_test_split(
        images, labels, test_size=0.2, stratify=labels, random_state=seed
    )
    return {"train": (train_x, train_y), "eval": (eval_x, eval_y)}


def shifted(images: torch.Tensor) -> torch.Tensor:
    """Each batch moved by up to one pixel, which makes up for the small number of images."""
    dy, dx = torch.randint(0, 3, (2,)).tolist()
    height, width = images.shape[2:]
    return functional.pad(images, (1, 1, 1, 1))[:, :, dy : dy + height, dx : dx + width]


def train(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, epochs: int) -> None:
    """Adam with a one-cycle learning rate, cross-entropy, batches of 64."""
    optimiser = torch.optim.Adam(model.parameters())
    steps = epochs * len(torch.arange(len(images)).split(64))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=4e-3, total_steps=steps)
    model.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).split(64):
            loss = functional.cross_entropy(model(shifted(images[rows])), labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()


def export(model: nn.Module, path: Path) -> None:
    """Writes the model with a dynamic batch axis and its BatchNorms kept, in inference mode."""
    # PRESERVE on a model in eval mode: EVAL would fold each BatchNorm into its convolution, and
    # BatchNorms that are still there let fine-tuning adapt to the channels that leave.
    torch.onnx.export(
        model.eval(),
        (torch.zeros(2, 1, 8, 8),),
        str(path),
        dynamo=False,
        training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False,
        opset_version=17,
        input_names=["input"],
        output_names=["logits"],
        dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}},
    )
    graph = onnx.load(path)
    onnx.checker.check_model(graph, full_check=True)
    norms = [node for node in graph.graph.node if node.op_type == "BatchNormalization"]
    modes = [a.i for node in norms for a in node.attribute if a.name == "training_mode"]
    if len(norms) != 3 or any(modes):
        raise SystemExit(f"{path}: found {len(norms)} BatchNorms with training_mode {modes}")


def accuracy(path: Path, images: np.ndarray, labels: np.ndarray) -> float:
    """Share of right answers in ONNX Runtime."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"input": images})
    return float(np.mean(logits.argmax(axis=1) == labels))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE, help="folder for the three files")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    data = load_split(args.seed)
    model = make_cnn()
    train(model, *(torch.from_numpy(array) for array in data["train"]), args.epochs)
    export(model, args.out / "digits.onnx")
    for split, (images, labels) in data.items():
        np.savez_compressed(args.out / f"{split}.npz", input=images, labels=labels)
        score = accuracy(args.out / "digits.onnx", images, labels)
        print(f"{split}: {len(labels)} images, accuracy {score:.4f}")


if __name__ == "__main__":
    main()
