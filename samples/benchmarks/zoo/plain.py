"""Chains without branches, and a fire of parallel ones: MLP, VGG-like, Inception-like."""

# ruff: noqa: D102 - forward does what its class says

import torch
from torch import Tensor, nn


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 24), nn.Tanh(), nn.Linear(24, 5)
    )


def conv_norm(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def vgg() -> nn.Module:
    return nn.Sequential(
        conv_norm(3, 16),
        conv_norm(16, 16),
        nn.MaxPool2d(2),
        conv_norm(16, 32),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 48),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(48, 10),
    )


class Inception(nn.Module):
    """Parallel convolutions of several kernel sizes, joined by Concat."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_norm(3, 16)
        self.narrow = conv_norm(16, 8, 1)
        self.middle = nn.Sequential(conv_norm(16, 8, 1), conv_norm(8, 12))
        self.wide = nn.Sequential(conv_norm(16, 8, 1), conv_norm(8, 8, 5))
        self.pooled = nn.Sequential(nn.AvgPool2d(3, 1, 1), conv_norm(16, 8, 1))
        self.join = conv_norm(36, 24)
        self.head = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        branches = [self.narrow(x), self.middle(x), self.wide(x), self.pooled(x)]
        x = self.join(torch.cat(branches, dim=1))
        return self.head(x.mean((2, 3)))
