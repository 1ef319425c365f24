"""A detector in the manner of YOLO, and a one-dimensional network for audio."""

# ruff: noqa: D102 - forward does what its class says

import torch
from torch import Tensor, nn
from torch.nn import functional


def conv_silu(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.SiLU(),
    )


class CrossStage(nn.Module):
    """Splits the channels, filters one half twice, and joins all that arose (C2f)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.enter = conv_silu(channels, channels, 1)
        self.first = conv_silu(half, half)
        self.second = conv_silu(half, half)
        self.leave = conv_silu(3 * half, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.enter(x).chunk(2, 1)
        return self.leave(torch.cat([left, right, right + self.second(self.first(right))], 1))


class Detector(nn.Module):
    """Two scales with nearest upsampling between them; boxes and scores as two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_silu(3, 8, 3, 2)
        self.fine = nn.Sequential(conv_silu(8, 16, 3, 2), CrossStage(16))
        self.coarse = nn.Sequential(conv_silu(16, 24, 3, 2), CrossStage(24))
        self.pool = nn.MaxPool2d(3, 1, 1)
        self.join = conv_silu(64, 16, 1)
        self.heads = nn.ModuleList([nn.Conv2d(16, 7, 1), nn.Conv2d(48, 7, 1)])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.fine(self.stem(x))
        coarse = self.coarse(fine)
        coarse = torch.cat([coarse, self.pool(coarse)], 1)
        wide = functional.interpolate(coarse, scale_factor=2.0, mode="nearest")
        fine = self.join(torch.cat([wide, fine], 1))
        scales = [head(y) for head, y in zip(self.heads, (fine, coarse), strict=True)]
        cells = torch.cat([y.flatten(2) for y in scales], 2).transpose(1, 2)
        boxes, scores = cells.split((4, 3), 2)
        return boxes.exp(), scores.sigmoid()


def audio() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(2, 16, 5, stride=2, padding=2),
        nn.GroupNorm(4, 16),
        nn.ELU(),
        nn.Conv1d(16, 24, 3, dilation=2, padding=2),
        nn.BatchNorm1d(24),
        nn.LeakyReLU(0.1),
        nn.MaxPool1d(2),
        nn.Conv1d(24, 32, 3, padding=1),
        nn.Softplus(),
        nn.AdaptiveMaxPool1d(1),
        nn.Flatten(),
        nn.Linear(32, 6),
    )
