"""Reads a file that claims to be an ONNX model, up to the parsed message."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]

from crespr_onnx.errors import ModelError

MESSAGE_LIMIT = 2**31 - 1
"""Bytes that one protobuf message can hold."""
# The first bytes of what people give instead of an ONNX model: offset, bytes, what to say.
OTHER_FORMATS = (
    (0, b"PK\x03\x04", "a zip archive such as PyTorch writes; export it with torch.onnx.export"),
    (0, b"version https://git-lfs", "a Git LFS pointer; fetch the model with `git lfs pull`"),
    (0, b"\x89HDF", "an HDF5 file such as Keras writes; convert it with tf2onnx"),
    (0, b"\x80\x02", "a Python pickle; export the model with torch.onnx.export"),
    (4, b"TFL3", "a TensorFlow Lite model; convert it with tf2onnx"),
    (4, b"ORTM", "in ONNX Runtime's own format; give the .onnx file that it was made from"),
)


def read_proto(path: Path, max_bytes: int) -> tuple[onnx.ModelProto, str, int]:
    """Reads and parses a model file; external data is left where it is.

    Args:
        path: the file.
        max_bytes: bound on its size, besides that of a protobuf message.

    Returns:
        The model, the SHA-256 of the file and its size in bytes.

    Raises:
        ModelError: if it is no file, too large, or not an ONNX model.
        OSError: if it cannot be read.
    """
    data = _read(path, min(max_bytes, MESSAGE_LIMIT))
    proto = _parse(data)
    _check_text(proto)
    return proto, hashlib.sha256(data).hexdigest(), len(data)


def _read(path: Path, max_bytes: int) -> bytes:
    if not path.exists():
        raise ModelError("no such file; give the path of an .onnx model")
    if not path.is_file():
        raise ModelError("is not a file; give the path of an .onnx model")
    with path.open("rb") as file:
        # One byte more than allowed tells a file that is too large, even if it grows meanwhile.
        data = file.read(max_bytes + 1) if path.stat().st_size <= max_bytes else None
    if data is None or len(data) > max_bytes:
        raise ModelError(
            f"has {path.stat().st_size} bytes, more than the limit of {max_bytes} for one file; "
            "save the model with external data"
        )
    if not data:
        raise ModelError("is empty; export or copy the model again")
    return data


def _parse(data: bytes) -> onnx.ModelProto:
    for offset, magic, what in OTHER_FORMATS:
        if data[offset : offset + len(magic)] == magic:
            raise ModelError(f"is not an ONNX model but {what}")
    try:
        proto = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        # An ONNX file opens with field 1, the IR version, as a one-byte number.
        if data[0] == 0x08 and len(data) > 1 and data[1] <= onnx.IR_VERSION:
            raise ModelError(
                f"is truncated or damaged after {len(data)} bytes; copy or export the model again"
            ) from error
        raise ModelError("is not an ONNX model; give an .onnx file") from error
    if not proto.HasField("graph") or not proto.ir_version:
        raise ModelError("is not an ONNX model, or is truncated: it holds no graph")
    return proto


def _check_text(message: Message) -> None:
    """Protobuf hands out bytes for a string that is not UTF-8, which nothing here expects."""
    for field, value in message.ListFields():
        repeated = isinstance(value, Sequence) and not isinstance(value, str | bytes)
        items = value if repeated else (value,)
        if field.type == field.TYPE_MESSAGE:
            for item in items:
                _check_text(item)
        elif field.type == field.TYPE_STRING and any(isinstance(item, bytes) for item in items):
            raise ModelError(
                f"is damaged: the {field.name} of a {message.DESCRIPTOR.name} is not text; "
                "copy or export the model again"
            )
