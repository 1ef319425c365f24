"""Reads an ONNX model from a file that is hostile until checked."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes.common import NameFixPass, RemoveInitializersFromInputsPass
from onnx_ir.passes.common.naming import SimpleNameGenerator

from crespr_onnx.errors import ModelError
from crespr_onnx.graph.functions import inline_functions
from crespr_onnx.graph.nested import all_nodes
from crespr_onnx.graph.read import MESSAGE_LIMIT, read_proto
from crespr_onnx.graph.signature import ModelSignature, signature_of
from crespr_onnx.graph.supported import check_supported
from crespr_onnx.graph.tensor_data import LARGE, Tensors, check_tensors, take_tensors

# What onnx, onnx-ir and protobuf raise on damaged input; a TypeError and its like would be a bug.
DAMAGE = (ArithmeticError, LookupError, MemoryError, RuntimeError, ValueError)


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model that passed every check.

    Attributes:
        model: shapes inferred, functions inlined, every node with a unique name, no initializer
            among the inputs. Inputs and outputs are as the file declares them. Large tensors of
            external data are mapped from their file, all others are in memory.
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


def load_model(
    path: Path | str,
    *,
    max_bytes: int | None = None,
    large: int = LARGE,
    quantised: bool = False,
) -> LoadedModel:
    """Reads, checks and normalises an ONNX model.

    It takes about twice the bytes of the file at most, and once in the end; external data is
    mapped, so that it takes memory only when it is read.

    Args:
        path: the file.
        max_bytes: bound on the file with its external data; by default the machine's memory. The
            file alone, and every activation of fixed shape, are also bound by what one protobuf
            message can hold, 2 GiB.
        large: initializers of this many bytes or more are kept apart from the protobuf message.
        quantised: take quantised models as well, which can be run and compared, not compressed.

    Raises:
        ModelError: if the file cannot be read, is not a valid ONNX model, reaches outside of its
            folder, or is of a kind that is not supported. The message starts with the path.
    """
    path = Path(path)
    max_bytes = _memory() if max_bytes is None else max_bytes
    with errors_of(path), _damage_is_an_error():
        proto, sha256, size = read_proto(path, max_bytes)
        _normalise_domain(proto)
        check_supported(proto, quantised=quantised)
        external = check_tensors(proto, path.parent, max_bytes - size)
        order = [tensor.name for tensor in proto.graph.initializer]
        tensors = take_tensors(proto, path.parent, large)
        if tensors:
            # A message keeps the memory of what was deleted from it; its copy never had it.
            proto = onnx.ModelProto.FromString(proto.SerializeToString())
        _check_onnx(proto)
        model = _normalise(proto, tensors, order)
        signature = signature_of(model)
        _check_activations(model, min(max_bytes, MESSAGE_LIMIT))
        return LoadedModel(model, signature, sha256, size + external, path)


@contextmanager
def errors_of(path: Path) -> Iterator[None]:
    """Puts the path of a model before the message of every ModelError.

    Raises:
        ModelError: with the path.
    """
    try:
        yield
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error.__cause__


@contextmanager
def _damage_is_an_error() -> Iterator[None]:
    """Lets nothing but a ModelError out."""
    try:
        yield
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror or error}") from error
    except DAMAGE as error:
        raise ModelError(
            f"not a valid ONNX model ({_first_line(error)}); export it again"
        ) from error


def _memory() -> int:
    """Bytes of memory that the machine has."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _normalise_domain(proto: onnx.ModelProto) -> None:
    imports = (entry for function in proto.functions for entry in function.opset_import)
    for item in (*proto.opset_import, *imports, *all_nodes(proto)):
        if item.domain == "ai.onnx":
            item.domain = ""


def _check_onnx(proto: onnx.ModelProto) -> None:
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(
            f"the ONNX checker refuses it: {_first_line(error)}; export the model again"
        ) from error


def _normalise(proto: onnx.ModelProto, tensors: Tensors, order: list[str]) -> ir.Model:
    # Before IR version 4 every initializer had to be an input as well; since then such an input is
    # one that callers may override, which keeps ONNX Runtime from folding it.
    proto.ir_version = max(proto.ir_version, 4)
    if proto.functions:
        inlined: ir.Model = ir.from_proto(proto)
        inline_functions(inlined)
        proto = ir.to_proto(inlined)
    inferred = _infer(proto)
    # Inference may rewrite what the interface declares.
    for declared, value in zip(proto.graph.output, inferred.graph.output, strict=True):
        value.CopyFrom(declared)
    model: ir.Model = ir.from_proto(inferred)
    _put_back(model.graph, tensors, order)
    RemoveInitializersFromInputsPass()(model)
    NameFixPass(_NodeNames())(model)
    return model


def _infer(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with the shapes of all values, as far as they can be told."""
    recorded = {value.name: value for value in proto.graph.value_info}
    if recorded and not all(map(_is_fixed, proto.graph.input)):
        # Shapes recorded for one batch size stay behind when somebody frees the batch of a model:
        # believed is only what cannot be worked out.
        del proto.graph.value_info[:]
        known = {
            v.name for v in _shapes(proto).graph.value_info if v.type.tensor_type.HasField("shape")
        }
        proto.graph.value_info.extend(v for name, v in recorded.items() if name not in known)
    return _shapes(proto)


def _shapes(proto: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.shape_inference.infer_shapes(
        proto, check_type=True, strict_mode=False, data_prop=True
    )


def _is_fixed(value: onnx.ValueInfoProto) -> bool:
    kind = value.type.tensor_type
    return kind.HasField("shape") and all(dim.HasField("dim_value") for dim in kind.shape.dim)


def _put_back(graph: ir.Graph, tensors: Tensors, order: list[str]) -> None:
    """Makes tensors that stood aside initializers again, all in the order of the file."""
    if not tensors:
        return
    for value in graph.inputs:
        if value.name in tensors:
            value.const_value = tensors[value.name]
            graph.register_initializer(value)
    values = [graph.initializers.pop(name) for name in order]
    for value in values:
        graph.register_initializer(value)


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
