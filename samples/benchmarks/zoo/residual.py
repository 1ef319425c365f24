"""With shortcuts: ResNet, MobileNetV2-like, squeeze-and-excite, DenseNet- and ConvNeXt-like."""

# ruff: noqa: D102 - forward does what its class says

import torch
from torch import Tensor, nn
from torch.nn import functional

from zoo.plain import conv_norm


class BasicBlock(nn.Module):
    """Two convolutions beside a shortcut, which is a convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.first = conv_norm(inputs, outputs, 3, stride)
        self.second = conv_norm(outputs, outputs)[:2]
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else conv_norm(inputs, outputs, 1, stride)[:2]

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.second(self.first(x)) + self.shortcut(x))


class Head(nn.Module):
    """Global average pooling and a linear layer."""

    def __init__(self, inputs: int, classes: int = 10) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(torch.flatten(self.pool(x), 1))


def resnet() -> nn.Module:
    return nn.Sequential(
        conv_norm(3, 16), BasicBlock(16, 16), BasicBlock(16, 32, 2), BasicBlock(32, 32), Head(32)
    )


class InvertedResidual(nn.Module):
    """Expand, filter each channel alone, project; a shortcut where the shape stays."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        hidden = 4 * inputs
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(),
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.shortcut else self.layers(x)


def mobilenet() -> nn.Module:
    return nn.Sequential(
        conv_norm(3, 8, 3, 2),
        InvertedResidual(8, 12),
        InvertedResidual(12, 12),
        InvertedResidual(12, 16, 2),
        nn.Conv2d(16, 32, 1),
        nn.Hardswish(),
        Head(32),
    )


class Excited(nn.Module):
    """A residual block whose channels are scaled by gates computed from their means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = conv_norm(channels, channels)
        self.squeeze = nn.Conv2d(channels, channels // 4, 1)
        self.excite = nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        gate = torch.relu(self.squeeze(functional.adaptive_avg_pool2d(y, 1)))
        return x + y * torch.sigmoid(self.excite(gate))


def squeeze_excite() -> nn.Module:
    return nn.Sequential(
        conv_norm(3, 16), Excited(16), conv_norm(16, 32, 3, 2), Excited(32), Head(32)
    )


class DenseLayer(nn.Module):
    """Appends new channels to those that it reads."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.conv = nn.Conv2d(inputs, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv(torch.relu(self.norm(x)))], 1)


def densenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        DenseLayer(16, 8),
        DenseLayer(24, 8),
        conv_norm(32, 16, 1),
        nn.AvgPool2d(2),
        DenseLayer(16, 8),
        Head(24),
    )


class ConvNextBlock(nn.Module):
    """A depthwise convolution, LayerNorm over channels, and an MLP with channels last."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.expand = nn.Linear(channels, 4 * channels)
        self.project = nn.Linear(4 * channels, channels)
        self.scale = nn.Parameter(0.5 * torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.scale * self.project(functional.gelu(self.expand(y)))
        return x + y.permute(0, 3, 1, 2)


def convnext() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 16, 4, 4), ConvNextBlock(16), ConvNextBlock(16), Head(16))
