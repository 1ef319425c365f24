"""Tensors in files beside the model: checked against the file, then read or mapped into memory."""

import os
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from crespr_onnx.errors import ModelError

FIX = "the file is damaged or was not written by an exporter; export the model again"


def check_external(tensor: onnx.TensorProto, dtype: ir.DataType, nbytes: int, folder: Path) -> None:
    """Checks where a tensor says that its data is, without reading it.

    Args:
        tensor: with external data.
        dtype: its element type.
        nbytes: bytes that its declared type and shape take.
        folder: the model's folder, which the data must not leave.

    Raises:
        ModelError: for data that is missing, of another size, or outside of the folder.
    """
    if dtype == ir.DataType.STRING:
        raise ModelError(f"tensor {tensor.name!r} keeps strings in external data; {FIX}")
    entries = _entries(tensor)
    file = _inside(entries.get("location", ""), folder, tensor.name)
    available = file.stat().st_size
    offset = _count(entries.get("offset", "0"), "offset", tensor.name)
    length = _count(entries.get("length", str(available - offset)), "length", tensor.name)
    if length != nbytes:
        raise ModelError(
            f"tensor {tensor.name!r} declares {dtype.name}{list(tensor.dims)}, which takes "
            f"{nbytes} bytes, but its external data has {length}; {FIX}"
        )
    if offset + length > available:
        raise ModelError(
            f"tensor {tensor.name!r} reaches to byte {offset + length} of external data "
            f"{file.name!r}, which ends at {available}; copy the whole file beside the model"
        )


def map_external(tensor: onnx.TensorProto, folder: Path, nbytes: int) -> NDArray[np.uint8]:
    """The bytes of a checked tensor, mapped read-only: they take memory as they are used."""
    file, offset = _place(tensor, folder)
    mapped: np.memmap[Any, np.dtype[np.uint8]] = np.memmap(
        file, np.uint8, mode="r", offset=offset, shape=(nbytes,)
    )
    return np.asarray(mapped)


def read_external(tensor: onnx.TensorProto, folder: Path, nbytes: int) -> None:
    """Reads the data of a checked tensor into it."""
    file, offset = _place(tensor, folder)
    with file.open("rb") as opened:
        opened.seek(offset)
        tensor.raw_data = opened.read(nbytes)
    tensor.ClearField("data_location")
    del tensor.external_data[:]


def _place(tensor: onnx.TensorProto, folder: Path) -> tuple[Path, int]:
    entries = _entries(tensor)
    return _inside(entries["location"], folder, tensor.name), int(entries.get("offset", "0"))


def _entries(tensor: onnx.TensorProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def _inside(location: str, folder: Path, tensor: str) -> Path:
    """The external file, proven to lie inside the folder without following any link."""
    parts = PurePosixPath(location.replace("\\", "/")).parts
    absolute = PurePosixPath(location).is_absolute() or PureWindowsPath(location).drive
    if not parts or absolute or location.startswith("\\") or ".." in parts or "\0" in location:
        raise ModelError(
            f"tensor {tensor!r} points to external data {location!r} outside of the model's "
            "folder; keep the data beside the model and name it by a relative path"
        )
    path = Path(os.path.realpath(folder))
    for part in parts:
        path = path / part
        if path.is_symlink():
            raise ModelError(
                f"external data {location!r} of tensor {tensor!r} is a symbolic link; "
                "put the file itself into the model's folder"
            )
    if not path.is_file():
        raise ModelError(
            f"external data {location!r} of tensor {tensor!r} is missing; "
            "copy it into the model's folder"
        )
    if path.stat().st_nlink > 1:
        raise ModelError(
            f"external data {location!r} of tensor {tensor!r} has several hard links, so it may "
            "be a file from elsewhere; copy it into the model's folder"
        )
    return path


def _count(text: str, key: str, tensor: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ModelError(
            f"tensor {tensor!r} has external data with {key} {text[:40]!r}, which must be a "
            f"count of bytes; {FIX}"
        )
    return int(text)
