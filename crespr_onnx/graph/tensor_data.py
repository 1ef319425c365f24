"""Stored tensors of a hostile file: declared sizes against real ones, and external data."""

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx
import onnx_ir as ir
from onnx.external_data_helper import load_external_data_for_tensor

from crespr_onnx.errors import ModelError

_FIX = "the file is damaged or was not written by an exporter; export the model again"


def stored_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """All initializers and all tensors in node attributes (a graph without subgraphs)."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def check_and_load_tensors(model: onnx.ModelProto, folder: Path, max_bytes: int) -> int:
    """Checks every stored tensor and reads external data into the model, in place.

    Nothing is allocated before all declared sizes fit the stored bytes and `max_bytes`.

    Args:
        model: a graph without subgraphs and functions.
        folder: the model's folder, which external data must not leave.
        max_bytes: bound on the bytes of all external data.

    Returns:
        Bytes that were read from external files.

    Raises:
        ModelError: for an impossible shape or type, a size that differs from the stored data, or
            external data that is missing, too short, or outside of the folder.
    """
    external = []
    total = 0
    for tensor in stored_tensors(model.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            total += _check_external(tensor, folder)
            external.append(tensor)
            if total > max_bytes:
                raise ModelError(
                    f"external data exceeds the limit of {max_bytes} bytes at tensor "
                    f"{tensor.name!r}; such large models are not supported"
                )
        else:
            _check_embedded(tensor)
    for tensor in external:
        load_external_data_for_tensor(tensor, str(folder))
    return total


def _elements(tensor: onnx.TensorProto) -> int:
    if any(dim < 0 for dim in tensor.dims):
        raise ModelError(
            f"tensor {tensor.name!r} declares shape {list(tensor.dims)} with a negative "
            f"dimension; {_FIX}"
        )
    return math.prod(tensor.dims)


def _data_type(tensor: onnx.TensorProto) -> ir.DataType:
    try:
        dtype = ir.DataType(tensor.data_type)
    except ValueError:
        dtype = ir.DataType.UNDEFINED
    if dtype == ir.DataType.UNDEFINED:
        raise ModelError(
            f"tensor {tensor.name!r} has unknown element type {tensor.data_type}; {_FIX}"
        )
    return dtype


def _check_embedded(tensor: onnx.TensorProto) -> None:
    dtype, elements = _data_type(tensor), _elements(tensor)
    if tensor.HasField("raw_data") and dtype != ir.DataType.STRING:
        stored, declared, unit = len(tensor.raw_data), _nbytes(dtype, elements), "bytes"
    else:
        field = onnx.helper.tensor_dtype_to_field(tensor.data_type)
        stored, declared, unit = len(getattr(tensor, field)), elements, "values"
        if dtype in (ir.DataType.COMPLEX64, ir.DataType.COMPLEX128):
            declared *= 2
        elif dtype != ir.DataType.STRING and dtype.bitwidth < 8:
            declared = _nbytes(dtype, elements)
    if stored != declared:
        raise ModelError(
            f"tensor {tensor.name!r} declares {dtype.name}{list(tensor.dims)}, which takes "
            f"{declared} {unit}, but stores {stored}; {_FIX}"
        )


def _check_external(tensor: onnx.TensorProto, folder: Path) -> int:
    """Checks one external tensor against its file and returns its size in bytes."""
    dtype, elements = _data_type(tensor), _elements(tensor)
    if dtype == ir.DataType.STRING:
        raise ModelError(f"tensor {tensor.name!r} keeps strings in external data; {_FIX}")
    entries = {entry.key: entry.value for entry in tensor.external_data}
    file = _inside(entries.get("location", ""), folder, tensor.name)
    available = file.stat().st_size
    offset = _count(entries.get("offset", "0"), "offset", tensor.name)
    length = _count(entries.get("length", str(available - offset)), "length", tensor.name)
    declared = _nbytes(dtype, elements)
    if length != declared:
        raise ModelError(
            f"tensor {tensor.name!r} declares {dtype.name}{list(tensor.dims)}, which takes "
            f"{declared} bytes, but its external data has {length}; {_FIX}"
        )
    if offset + length > available:
        raise ModelError(
            f"tensor {tensor.name!r} reaches to byte {offset + length} of external data "
            f"{file.name!r}, which ends at {available}; copy the whole file beside the model"
        )
    return length


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
    return path


def _count(text: str, key: str, tensor: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ModelError(
            f"tensor {tensor!r} has external data with {key} {text[:40]!r}, which must be a "
            f"count of bytes; {_FIX}"
        )
    return int(text)


def _nbytes(dtype: ir.DataType, elements: int) -> int:
    return -(-elements * dtype.bitwidth // 8)
