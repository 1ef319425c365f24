"""The toy data of "Pruning by Explaining" (arXiv 1912.08881) and the networks trained on it."""

from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import make_circles, make_moons
from torch import nn
from torch.nn import functional

CLASSES = {"moon": 2, "circle": 2, "mult": 4}
WIDTH = 1000
TRAIN_PER_CLASS = 1000
_TRAIN_SEED = 10_000
"""Of the training data: away from the seeds of the reference samples."""


def draw(dataset: str, per_class: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Points float32 [n, 2] and classes int64 [n]: two moons, two circles, or four spiral arms."""
    if dataset == "mult":
        points, classes = _spirals(per_class, seed)
    elif dataset == "moon":
        points, classes = make_moons(2 * per_class, noise=0.1, random_state=seed)
    else:
        points, classes = make_circles(2 * per_class, noise=0.1, factor=0.3, random_state=seed)
    return torch.from_numpy(points.astype(np.float32)), torch.from_numpy(classes.astype(np.int64))


def _spirals(per_class: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Arms of radius 0 to 1, each turning by 4 radians, with noise of 0.2 on the angle."""
    rng = np.random.RandomState(seed)
    radius = np.linspace(0.0, 1.0, per_class)
    points = []
    for arm in range(CLASSES["mult"]):
        angle = np.linspace(4 * arm, 4 * arm + 4, per_class) + 0.2 * rng.randn(per_class)
        points.append(np.stack([radius * np.sin(angle), radius * np.cos(angle)], axis=1))
    return np.concatenate(points), np.repeat(np.arange(CLASSES["mult"]), per_class)


def make_network(classes: int, third_relu: bool = False) -> nn.Sequential:
    """2-1000-1000-1000-classes with half of the first hidden layer dropped in training.

    The published code lists its layers under names of which one stands twice, so that no
    activation follows the third hidden layer: what its figures are of is the network without it.
    """
    last = [nn.ReLU()] if third_relu else []
    return nn.Sequential(
        nn.Linear(2, WIDTH), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(WIDTH, WIDTH), nn.ReLU(),
        nn.Linear(WIDTH, WIDTH), *last,
        nn.Linear(WIDTH, classes),
    )  # fmt: skip


@dataclass(frozen=True)
class Training:
    """How a network is trained.

    SGD at 0.001 with momentum 0.9 for 10,000 steps, as published; there each step sees all data,
    here a batch of it, which takes minutes rather than hours of one core.

    Attributes:
        seed: of the training data and the network.
        steps: of SGD.
        batch: samples per step.
        average: give the running mean of the weights over about the last 1,000 steps, which
            stands for the quiet steps on all data.
        third_relu: see `make_network`.
    """

    seed: int = 0
    steps: int = 10_000
    batch: int = 64
    average: bool = False
    third_relu: bool = False


def train(
    dataset: str, training: Training, cache: Path | None = None
) -> tuple[nn.Sequential, torch.Tensor, torch.Tensor]:
    """A trained network and its training data; with a cache, each network is trained once."""
    points, classes = draw(dataset, TRAIN_PER_CLASS, _TRAIN_SEED + training.seed)
    torch.manual_seed(training.seed)
    network = make_network(CLASSES[dataset], training.third_relu)
    name = "-".join(str(value) for value in (dataset, *astuple(training)))
    path = cache / f"{name}.pt" if cache else None
    if path and path.exists():
        network.load_state_dict(torch.load(path, weights_only=True))
    else:
        _descend(network, points, classes, training)
        if path:
            torch.save(network.state_dict(), path)
    return network.eval(), points, classes


def _descend(
    network: nn.Sequential, points: torch.Tensor, classes: torch.Tensor, training: Training
) -> None:
    optimiser = torch.optim.SGD(network.parameters(), lr=0.001, momentum=0.9)
    mean = [weight.detach().clone() for weight in network.parameters()]
    rows: list[torch.Tensor] = []
    for step in range(1, training.steps + 1):
        rows = rows or list(torch.randperm(len(points)).split(training.batch))
        index = rows.pop(0)
        loss = functional.cross_entropy(network(points[index]), classes[index])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if training.average and step % 10 == 0:
            for average, weight in zip(mean, network.parameters(), strict=True):
                average.lerp_(weight.detach(), 0.01)
    if training.average:
        with torch.no_grad():
            for average, weight in zip(mean, network.parameters(), strict=True):
                weight.copy_(average)
