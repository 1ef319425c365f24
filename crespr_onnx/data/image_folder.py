"""Images in one folder per class."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crespr_onnx.data.checks import data_error
from crespr_onnx.data.decode import MODES, image_size, read_into
from crespr_onnx.data.normalisation import ImageLayout, ImageOptions, Normalisation
from crespr_onnx.data.samples import Samples
from crespr_onnx.errors import DataError
from crespr_onnx.graph.signature import ModelSignature, TensorSpec

SUFFIXES = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)


def load_image_folder(
    path: Path, signature: ModelSignature, options: ImageOptions | None, max_bytes: int
) -> Samples:
    """Reads a folder of class folders; the labels are positions in the sorted class names.

    Images are converted to the model's 1 or 3 channels and kept as uint8. Where the model fixes
    height and width, other images are resized (bilinear) and a note says so; where it does not, all
    images must have one size.

    Args:
        path: the folder.
        signature: of the model, which must have one input [N, C, H, W] or [N, H, W, C].
        options: mean, std and scale; None only for a model that reads uint8.
        max_bytes: bound on all pixels together.

    Raises:
        DataError: if the folder, an image, or the model does not fit.
    """
    target = _target(path, signature)
    normalisation = _normalisation(path, signature, target, options)
    classes = _class_files(path, signature)
    files = [file for _, members in classes for file in members]
    labels = np.repeat(np.arange(len(classes)), [len(members) for _, members in classes])
    height, width = target.size or image_size(files[0])
    if float(len(files)) * height * width * target.channels > max_bytes:
        raise DataError(
            f"{path}: {len(files)} images of {width}x{height} take more than the limit of "
            f"{max_bytes} bytes; give fewer or smaller images"
        )
    nchw = target.layout == "NCHW"
    image = (target.channels, height, width) if nchw else (height, width, target.channels)
    pixels = np.empty((len(files), *image), dtype=np.uint8)
    channels_last = pixels.transpose(0, 2, 3, 1) if nchw else pixels
    resized = 0
    for index, file in enumerate(files):
        resized += read_into(channels_last[index], file, resize=target.size is not None)
    notes = [f"{len(files)} images in {len(classes)} classes: {_names(classes)}"]
    if resized:
        notes.append(f"{resized} images were resized to {width}x{height}, which the model fixes")
    return Samples(
        inputs={target.name: pixels},
        labels=labels.astype(np.int64),
        normalisation={} if normalisation is None else {target.name: normalisation},
        notes=tuple(notes),
    )


@dataclass(frozen=True)
class _Target:
    """What the model's input says about images; `size` is height and width if both are fixed."""

    name: str
    dtype: np.dtype[Any]
    layout: ImageLayout
    channels: int
    size: tuple[int, int] | None


def _target(path: Path, signature: ModelSignature) -> _Target:
    if len(signature.inputs) != 1:
        raise data_error(
            f"{path}", "a folder of images feeds one input; give an .npz file instead", signature
        )
    spec: TensorSpec = signature.inputs[0]
    dims = spec.dims or ()
    layout: ImageLayout
    if len(dims) == 4 and dims[1] in MODES:
        layout, channels, size = "NCHW", dims[1], dims[2:]
    elif len(dims) == 4 and dims[3] in MODES:
        layout, channels, size = "NHWC", dims[3], dims[1:3]
    else:
        raise data_error(
            f"{path}",
            f"input {spec.name} takes no images, which need 4 axes, 1 or 3 channels second or "
            "last; give an .npz file instead",
            signature,
        )
    assert isinstance(channels, int)
    height, width = size
    fixed = (height, width) if isinstance(height, int) and isinstance(width, int) else None
    return _Target(spec.name, spec.dtype, layout, channels, fixed)


def _normalisation(
    path: Path, signature: ModelSignature, target: _Target, options: ImageOptions | None
) -> Normalisation | None:
    if target.dtype == np.uint8:
        if options is not None:
            raise data_error(
                f"{path}", "the model reads raw pixels; leave mean, std and scale out", signature
            )
        return None
    if target.dtype.kind != "f":
        raise data_error(
            f"{path}", f"images cannot become {target.dtype}; give an .npz file instead", signature
        )
    if options is None:
        raise data_error(
            f"{path}",
            "images need the preprocessing of the model's training; give --image-mean, "
            "--image-std and --image-scale",
            signature,
        )
    for name, values in (("mean", options.mean), ("std", options.std)):
        if len(values) not in (1, target.channels):
            raise data_error(
                f"{path}",
                f"--image-{name} has {len(values)} numbers for {target.channels} channels",
                signature,
            )
    return Normalisation(options, target.layout, target.dtype)


def _class_files(path: Path, signature: ModelSignature) -> list[tuple[str, list[Path]]]:
    """Class names and their images, both sorted."""
    folders = sorted(entry for entry in _visible(path) if entry.is_dir())
    if not folders:
        raise data_error(
            f"{path}", "holds no class folders; put the images of each class in its own", signature
        )
    classes = [(f.name, sorted(e for e in _visible(f) if _is_image(e))) for f in folders]
    empty = [name for name, files in classes if not files]
    if empty:
        raise data_error(
            f"{path}",
            f"class folder {empty[0]!r} holds no images ({', '.join(sorted(SUFFIXES))}); "
            "fill it or remove it",
            signature,
        )
    if signature.classes is not None and len(classes) != signature.classes:
        raise data_error(
            f"{path}",
            f"has {len(classes)} class folders for {signature.classes} outputs; a label is the "
            "position in the sorted names, so every class needs its folder",
            signature,
        )
    return classes


def _visible(path: Path) -> Iterator[Path]:
    return (entry for entry in path.iterdir() if not entry.name.startswith("."))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _names(classes: list[tuple[str, list[Path]]], most: int = 10) -> str:
    names = [name for name, _ in classes]
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
