"""Reads an ONNX model from a file that is hostile until checked."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]
from onnx_ir.passes.common import NameFixPass, RemoveInitializersFromInputsPass
from onnx_ir.passes.common.naming import SimpleNameGenerator

from crespr_onnx.errors import ModelError
from crespr_onnx.graph.signature import ModelSignature, signature_of
from crespr_onnx.graph.supported import check_supported
from crespr_onnx.graph.tensor_data import check_and_load_tensors

GIB = 2**30
# The first bytes of what people give instead of an ONNX model: offset, bytes, what to say.
OTHER_FORMATS = (
    (0, b"PK\x03\x04", "a zip archive such as PyTorch writes; export it with torch.onnx.export"),
    (0, b"version https://git-lfs", "a Git LFS pointer; fetch the model with `git lfs pull`"),
    (0, b"\x89HDF", "an HDF5 file such as Keras writes; convert it with tf2onnx"),
    (0, b"\x80\x02", "a Python pickle; export the model with torch.onnx.export"),
    (4, b"TFL3", "a TensorFlow Lite model; convert it with tf2onnx"),
    (4, b"ORTM", "in ONNX Runtime's own format; give the .onnx file that it was made from"),
)
# What onnx, onnx-ir and protobuf raise on damaged input; a TypeError and its like would be a bug.
DAMAGE = (ArithmeticError, LookupError, MemoryError, RuntimeError, ValueError)


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model that passed every check.

    Attributes:
        model: all tensors in memory, shapes inferred, every node with a unique name, no
            initializer among the inputs. Inputs and outputs are as the file declares them.
        signature: its inputs and outputs.
        sha256: of the model file (without external data), as `sha256sum` prints it.
        bytes: size of the file and of the external data that it uses.
        path: where it was read from.
    """

    model: ir.Model
    signature: ModelSignature
    sha256: str
    bytes: int
    path: Path


def load_model(path: Path | str, *, max_bytes: int = 2 * GIB - 1) -> LoadedModel:
    """Reads, checks and normalises an ONNX model.

    Args:
        path: the file.
        max_bytes: bound on the file, on its external data, and on any single fixed-shape tensor
            (the default is the most that one protobuf message can hold).

    Raises:
        ModelError: if the file cannot be read, is not a valid ONNX model, reaches outside of its
            folder, or is of a kind that is not supported. The message starts with the path.
    """
    path = Path(path)
    with _model_errors(path):
        data = _read(path, max_bytes)
        proto = _parse(data)
        _check_text(proto)
        check_supported(proto)
        _normalise_domain(proto)
        external_bytes = check_and_load_tensors(proto, path.parent, max_bytes - len(data))
        _check_onnx(proto)
        model = _normalise(proto)
        signature = signature_of(model)
        _check_activations(model, max_bytes)
        return LoadedModel(
            model=model,
            signature=signature,
            sha256=hashlib.sha256(data).hexdigest(),
            bytes=len(data) + external_bytes,
            path=path,
        )


@contextmanager
def _model_errors(path: Path) -> Iterator[None]:
    """Puts the path before every message and lets nothing but a ModelError out."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error.__cause__
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error
    except DAMAGE as error:
        raise ModelError(
            f"{path}: not a valid ONNX model ({_first_line(error)}); export it again"
        ) from error


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
            f"has {path.stat().st_size} bytes, more than the limit of {max_bytes}; "
            "such large models are not supported"
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


def _normalise_domain(proto: onnx.ModelProto) -> None:
    for item in (*proto.opset_import, *proto.graph.node):
        if item.domain == "ai.onnx":
            item.domain = ""


def _check_onnx(proto: onnx.ModelProto) -> None:
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(
            f"the ONNX checker refuses it: {_first_line(error)}; export the model again"
        ) from error


def _normalise(proto: onnx.ModelProto) -> ir.Model:
    # Before IR version 4 every initializer had to be an input as well; since then such an input is
    # one that callers may override, which keeps ONNX Runtime from folding it.
    proto.ir_version = max(proto.ir_version, 4)
    inferred = onnx.shape_inference.infer_shapes(
        proto, check_type=True, strict_mode=False, data_prop=True
    )
    # Inference may rewrite what the interface declares.
    for declared, value in zip(proto.graph.output, inferred.graph.output, strict=True):
        value.CopyFrom(declared)
    model: ir.Model = ir.from_proto(inferred)
    RemoveInitializersFromInputsPass()(model)
    NameFixPass(_NodeNames())(model)
    return model


class _NodeNames(SimpleNameGenerator):
    """Names a node without a name for its operator."""

    def generate_node_name(self, node: ir.Node) -> str:
        return node.name or node.op_type


def _check_activations(model: ir.Model, max_bytes: int) -> None:
    for node in model.graph:
        for value in node.outputs:
            if value.shape is None or value.dtype in (None, ir.DataType.STRING):
                continue
            elements = np.prod([float(d) for d in value.shape if isinstance(d, int)])
            if elements * value.dtype.bitwidth / 8 > max_bytes:
                raise ModelError(
                    f"node {node.name!r} ({node.op_type}) makes a tensor of shape "
                    f"{list(value.shape)}, beyond the limit of {max_bytes} bytes; "
                    "fix its shape, or give a smaller model"
                )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".")[:300]
