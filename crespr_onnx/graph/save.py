"""Writes models of any size: small ones as one file, large ones with their weights beside it."""

from pathlib import Path

import onnx_ir as ir

from crespr_onnx.files import atomic_path, write_atomic
from crespr_onnx.graph.parts import Parts, take_apart, weight_bytes
from crespr_onnx.graph.stream import stream_message
from crespr_onnx.graph.tensor_data import LARGE

MAX_EMBEDDED = 2**30
"""Bytes of weights up to which a model is one file, with room below the 2 GiB of protobuf."""
DATA_SUFFIX = ".data"


def save_model(
    model: ir.Model, path: Path, *, max_embedded: int = MAX_EMBEDDED, large: int = LARGE
) -> None:
    """Writes a model; one with many weights as `path` and `path` + ".data".

    The model file appears last and goes first, so that what lies there is always a whole model or
    none. Large weights are written one by one: no copy of all of them is made.

    Args:
        model: any model; it stays as it is.
        path: the file; data of an earlier model beside it is replaced or removed.
        max_embedded: bytes of weights up to which all goes into one file.
        large: bytes from which a weight is large. Smaller ones are always in the model file.

    Raises:
        UsageError: if it cannot be written.
    """
    data = data_path(path)
    parts = take_apart(model, data.name, large=large)
    if weight_bytes(model) > max_embedded and parts.weights:
        _save_two_files(parts, path, data)
        return
    if parts.weights:
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            stream_message(parts, file)
    else:
        write_atomic(path, parts.proto.SerializeToString(deterministic=True))
    data.unlink(missing_ok=True)


def _save_two_files(parts: Parts, path: Path, data: Path) -> None:
    message = parts.proto.SerializeToString(deterministic=True)
    with atomic_path(path) as temporary, atomic_path(data) as temporary_data:
        temporary.write_bytes(message)
        with temporary_data.open("wb") as file:
            for weight in parts.weights:
                file.seek(weight.offset)
                file.write(weight.raw().data)
        path.unlink(missing_ok=True)


def data_path(path: Path) -> Path:
    """Where `save_model` puts the weights of a large model."""
    return path.with_name(path.name + DATA_SUFFIX)


def model_bytes(model: ir.Model) -> int:
    """Bytes that a model takes when saved, give or take the gaps that align large weights."""
    parts = take_apart(model, DATA_SUFFIX)
    large = sum(weight.tensor.nbytes for weight in parts.weights)
    return len(parts.proto.SerializeToString()) + large


def saved_bytes(path: Path) -> int:
    """Size of a model that `save_model` wrote, with its data."""
    data = data_path(path)
    return path.stat().st_size + (data.stat().st_size if data.exists() else 0)
