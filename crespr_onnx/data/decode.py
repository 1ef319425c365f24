"""Decodes one image of a hostile folder."""

import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crespr_onnx.errors import DataError

# Pillow's name for 8-bit images, by number of channels.
MODES = {1: "L", 3: "RGB"}
# Pillow clips these at 255 when it converts them.
DEEP_MODES = ("I", "F")
MAX_PIXELS = 64 * 10**6
# Everything that Pillow's decoders are known to raise on damaged files.
CORRUPT = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    OverflowError,
    TypeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


def image_size(file: Path) -> tuple[int, int]:
    """Height and width of an image.

    Raises:
        DataError: if it cannot be read.
    """
    try:
        with Image.open(file) as image:
            return image.height, image.width
    except CORRUPT as error:
        raise _corrupt(file, error) from error


def read_into(pixels: NDArray[np.uint8], file: Path, *, resize: bool) -> bool:
    """Decodes an image in place.

    Args:
        pixels: where to, shape [H, W, C] with 1 or 3 channels.
        file: the image.
        resize: whether an image of another size is resized (bilinear) or refused.

    Returns:
        Whether it was resized.

    Raises:
        DataError: if it cannot be read, has another size, or more than 8 bits per channel.
    """
    height, width, channels = pixels.shape
    try:
        with Image.open(file) as opened:
            image: Image.Image = opened
            if image.width * image.height > MAX_PIXELS:
                raise DataError(
                    f"{file}: has {image.width}x{image.height} pixels, more than {MAX_PIXELS}; "
                    "shrink it"
                )
            if image.mode.startswith(DEEP_MODES):
                raise DataError(
                    f"{file}: has more than 8 bits per channel (mode {image.mode}); convert it to "
                    "8 bits, or give an .npz file"
                )
            differs = (image.height, image.width) != (height, width)
            if differs and not resize:
                raise DataError(
                    f"{file}: is {image.width}x{image.height}, the first image is "
                    f"{width}x{height}; make them equal, or fix the model's input size"
                )
            image = image.convert(MODES[channels])
            if differs:
                image = image.resize((width, height), Image.Resampling.BILINEAR)
            pixels[...] = np.asarray(image).reshape(pixels.shape)
            return differs
    except CORRUPT as error:
        raise _corrupt(file, error) from error


def _corrupt(file: Path, error: Exception) -> DataError:
    reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
    return DataError(f"{file}: is not a readable image ({reason}); replace or remove it")
