"""How pixels become what a model reads."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from crespr_onnx.errors import UsageError

ImageLayout = Literal["NCHW", "NHWC"]


@dataclass(frozen=True)
class ImageOptions:
    """Preprocessing of images: (pixel / scale - mean) / std.

    Attributes:
        mean: per channel, or a single number for all, after the division by `scale`.
        std: the same.
        scale: what pixels from 0 to 255 are divided by.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float = 255.0

    def __post_init__(self) -> None:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, 3) or not all(math.isfinite(v) for v in values):
                raise UsageError(
                    f"--image-{name} is {_list(values)}; give one number, or one per channel"
                )
        if min(self.std) <= 0:
            raise UsageError(f"--image-std is {_list(self.std)}; it must be positive")
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise UsageError(f"--image-scale is {self.scale:g}; it must be positive")


@dataclass(frozen=True, eq=False)
class Normalisation:
    """Turns stored uint8 pixels into the floats that a model reads, batch by batch.

    Attributes:
        options: mean, std and scale.
        layout: axis order of the images.
        dtype: element type that the model reads.
    """

    options: ImageOptions
    layout: ImageLayout
    dtype: np.dtype[Any]

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[Any]:
        """Normalises images of shape [n, C, H, W] or [n, H, W, C], as `layout` says."""
        shape = (-1, 1, 1) if self.layout == "NCHW" else (-1,)
        mean, std = (np.asarray(v).reshape(shape) for v in (self.options.mean, self.options.std))
        # One multiplication and one addition in place, in float32 as frameworks do it.
        values = pixels.astype(np.float32)
        values *= (1.0 / (self.options.scale * std)).astype(np.float32)
        values -= (mean / std).astype(np.float32)
        return values.astype(self.dtype, copy=False)


def _list(values: tuple[float, ...]) -> str:
    return ",".join(f"{value:g}" for value in values)
