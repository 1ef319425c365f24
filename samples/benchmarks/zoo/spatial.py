"""Networks that move channels or positions about: U-Net, channel shuffle."""

# ruff: noqa: D102 - forward does what its class says

import torch
from torch import Tensor, nn
from torch.nn import functional

from zoo.plain import conv_norm
from zoo.residual import Head


class UNet(nn.Module):
    """Down twice, up once by ConvTranspose and once by Resize, with Concat across."""

    def __init__(self) -> None:
        super().__init__()
        self.top = conv_norm(3, 8)
        self.middle = conv_norm(8, 16)
        self.bottom = conv_norm(16, 24)
        self.up = nn.ConvTranspose2d(24, 16, 2, 2)
        self.join_middle = conv_norm(32, 16)
        self.join_top = conv_norm(24, 8)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        top = self.top(x)
        middle = self.middle(functional.max_pool2d(top, 2))
        bottom = self.bottom(functional.max_pool2d(middle, 2))
        middle = self.join_middle(torch.cat([self.up(bottom), middle], 1))
        wide = functional.interpolate(
            middle, scale_factor=2.0, mode="bilinear", align_corners=False
        )
        return self.head(self.join_top(torch.cat([wide, top], 1)))


def shuffle(x: Tensor, groups: int) -> Tensor:
    """Channel shuffle written out: the TorchScript exporter does not know nn.ChannelShuffle."""
    _, channels, height, width = x.shape
    x = x.reshape(-1, groups, channels // groups, height, width)
    return x.transpose(1, 2).reshape(-1, channels, height, width)


class ShuffleBlock(nn.Module):
    """Grouped convolutions with a channel shuffle between them (ShuffleNet)."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.first = nn.Sequential(
            nn.Conv2d(channels, channels, 1, groups=groups), nn.BatchNorm2d(channels), nn.ReLU()
        )
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.last = nn.Conv2d(channels, channels, 1, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        return torch.relu(x + self.last(self.depthwise(shuffle(y, self.groups))))


class SplitBlock(nn.Module):
    """Half of the channels pass by, the others are filtered, then both are shuffled (V2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv_norm(channels // 2, channels // 2), nn.PReLU(channels // 2))

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, 1)
        return shuffle(torch.cat([left, self.body(right)], 1), 2)


def shuffle_net() -> nn.Module:
    return nn.Sequential(conv_norm(3, 16), ShuffleBlock(16, 4), SplitBlock(16), Head(16))
