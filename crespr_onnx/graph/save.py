"""Writes models of any size: small ones as one file, large ones with their weights beside it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from crespr_onnx.files import atomic_path, write_atomic
from crespr_onnx.graph.tensor_data import LARGE

MAX_EMBEDDED = 2**30
"""Bytes of weights up to which a model is one message, with room below the 2 GiB of protobuf."""
DATA_SUFFIX = ".data"
# Pages are what operating systems map.
_ALIGNMENT = 4096


@dataclass(frozen=True, eq=False)
class Parts:
    """A model whose large initializers are apart.

    Attributes:
        proto: the model; what is apart is declared as external data.
        apart: name, offset in the file of external data, and tensor of what is apart.
    """

    proto: onnx.ModelProto
    apart: tuple[tuple[str, int, ir.TensorProtocol], ...]


def weight_bytes(model: ir.Model) -> int:
    """Bytes of all initializers of the main graph."""
    tensors = (value.const_value for value in model.graph.initializers.values())
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)


def part(model: ir.Model, location: str, *, max_embedded: int = MAX_EMBEDDED) -> Parts:
    """Takes a model apart if its weights are more than `max_embedded` bytes; it stays as it is.

    Args:
        model: any model.
        location: name of the file that the external data will be in.
        max_embedded: weights of so many bytes stay in the message.
    """
    if weight_bytes(model) <= max_embedded:
        return Parts(ir.to_proto(model), ())
    # The clone shares all tensors.
    shell = model.clone()
    apart: list[tuple[str, int, ir.TensorProtocol]] = []
    least = min(LARGE, max_embedded)
    end = 0
    for value in shell.graph.initializers.values():
        tensor = value.const_value
        if tensor is None or tensor.dtype.bitwidth < 8 or tensor.nbytes < least or not value.name:
            continue
        offset = -(-end // _ALIGNMENT) * _ALIGNMENT
        apart.append((value.name, offset, tensor))
        end = offset + tensor.nbytes
        value.const_value = ir.ExternalTensor(
            location,
            offset,
            tensor.nbytes,
            tensor.dtype,
            shape=ir.Shape(tensor.shape.numpy()),
            name=value.name,
        )
    return Parts(ir.to_proto(shell), tuple(apart))


def save_model(model: ir.Model, path: Path, *, max_embedded: int = MAX_EMBEDDED) -> None:
    """Writes a model; one with many weights as `path` and `path` + ".data".

    The model file appears last and goes first, so that what lies there is always a whole model or
    none. Weights are written one by one: no copy of all of them is made.

    Args:
        model: any model; it stays as it is.
        path: the file; data of an earlier model beside it is replaced or removed.
        max_embedded: bytes of weights up to which all goes into one file.

    Raises:
        UsageError: if it cannot be written.
    """
    data = data_path(path)
    parts = part(model, data.name, max_embedded=max_embedded)
    message = parts.proto.SerializeToString(deterministic=True)
    if not parts.apart:
        write_atomic(path, message)
        data.unlink(missing_ok=True)
        return
    with atomic_path(path) as temporary, atomic_path(data) as temporary_data:
        temporary.write_bytes(message)
        with temporary_data.open("wb") as file:
            for _, offset, tensor in parts.apart:
                file.seek(offset)
                np.asarray(tensor.numpy()).reshape(-1).view(np.uint8).tofile(file)
        path.unlink(missing_ok=True)


def data_path(path: Path) -> Path:
    """Where `save_model` puts the weights of a large model."""
    return path.with_name(path.name + DATA_SUFFIX)


def saved_bytes(path: Path) -> int:
    """Size of a model that `save_model` wrote, with its data."""
    data = data_path(path)
    return path.stat().st_size + (data.stat().st_size if data.exists() else 0)
