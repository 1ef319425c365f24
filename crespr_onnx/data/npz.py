"""Arrays of an .npz file, without running any code that hides in it."""

import math
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from crespr_onnx.errors import DataError

HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_npz(path: Path, max_bytes: int) -> dict[str, NDArray[Any]]:
    """Reads all arrays of a file.

    Args:
        path: the file.
        max_bytes: bound on the size of all arrays, checked before any is read.

    Raises:
        DataError: if the file is no .npz, is damaged or too large, or holds Python objects.
    """
    if not zipfile.is_zipfile(path):
        raise DataError(
            f"{path}: is not an .npz file, or is truncated; write it with numpy.savez_compressed"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            declared = sum(_declared_bytes(archive, entry, path) for entry in archive.infolist())
        if declared > max_bytes:
            raise DataError(
                f"{path}: holds {declared} bytes of arrays, more than the limit of {max_bytes}; "
                "give fewer samples, or batches from module:function"
            )
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    # A damaged archive shows in zipfile, zlib or numpy, each with exceptions of its own.
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{path}: is damaged ({_first_line(error)}); write it again with numpy.savez_compressed"
        ) from error


def _declared_bytes(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> int:
    """Bytes of one array as its header has it, which must be what the archive holds."""
    name = entry.filename.removesuffix(".npy")
    if name == entry.filename:
        raise DataError(
            f"{path}: {entry.filename!r} in it is no array; write it with numpy.savez_compressed"
        )
    with archive.open(entry) as file:
        version = npy.read_magic(file)
        if version not in HEADERS:
            raise DataError(f"{path}: {name} has an unusual header; write it with numpy.savez")
        shape, _, dtype = HEADERS[version](file)
        header = file.tell()
    if dtype.hasobject:
        raise DataError(
            f"{path}: {name} holds Python objects, which are not read for safety; "
            "make it an array of numbers (are its rows of different length?)"
        )
    size = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or header + size != entry.file_size:
        raise DataError(
            f"{path}: {name} declares {dtype}{list(shape)} but stores {entry.file_size - header} "
            "bytes; the file is damaged"
        )
    return size


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
