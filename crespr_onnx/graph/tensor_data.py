"""Stored tensors of a hostile file: declared sizes against real ones, and where the data goes."""

import math
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from crespr_onnx.errors import ModelError
from crespr_onnx.graph.external_data import FIX, check_external, map_external, read_external
from crespr_onnx.graph.nested import stored_tensors
from crespr_onnx.graph.read import MESSAGE_LIMIT

LARGE = 2**20
"""Initializers from this many bytes on are kept apart from the protobuf message."""

Tensors = dict[str, ir.TensorProtocol]


def check_tensors(model: onnx.ModelProto, folder: Path, max_bytes: int) -> int:
    """Checks every stored tensor against its data; reads and allocates nothing.

    Args:
        model: any model.
        folder: the model's folder, which external data must not leave.
        max_bytes: bound on the bytes of all external data.

    Returns:
        Bytes of all external data.

    Raises:
        ModelError: for an impossible shape or type, a size that differs from the stored data, or
            external data that is missing, too short, or outside of the folder.
    """
    total = 0
    for tensor in stored_tensors(model):
        dtype, nbytes = _data_type(tensor), _nbytes(tensor)
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            _check_embedded(tensor, dtype)
            continue
        check_external(tensor, dtype, nbytes, folder)
        total += nbytes
        if total > max_bytes:
            raise ModelError(
                f"external data exceeds the limit of {max_bytes} bytes at tensor "
                f"{tensor.name!r}; use a machine with more memory, or give a smaller model"
            )
    return total


def take_tensors(model: onnx.ModelProto, folder: Path, large: int = LARGE) -> Tensors:
    """Takes the large initializers out of a checked model, and reads all other external data in.

    What is left is small enough for the ONNX checker and for shape inference, which want one
    protobuf message: there, a large initializer is an input of its type and shape.

    Args:
        model: a model that `check_tensors` passed; changed in place.
        folder: the model's folder.
        large: bytes that make an initializer large.

    Returns:
        The large initializers by name: those in external data are mapped, so that they take
        memory only when read.

    Raises:
        ModelError: if the rest is too much for one message.
    """
    taken = {}
    kept = []
    inputs = {value.name: value for value in model.graph.input}
    outputs = {value.name for value in model.graph.output}
    for tensor in model.graph.initializer:
        nbytes = _nbytes(tensor)
        # A declared output would hide the true shape of an input of the same name.
        stays = not tensor.name or tensor.name in outputs or _data_type(tensor).bitwidth < 8
        if stays or nbytes < large:
            kept.append(tensor)
            continue
        taken[tensor.name] = _apart(tensor, folder, nbytes)
        declared = onnx.helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims))
        value = inputs.get(tensor.name) or model.graph.input.add(name=tensor.name)
        value.type.CopyFrom(declared)
    if taken:
        small = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in kept]
        del model.graph.initializer[:]
        model.graph.initializer.extend(small)
    _read_rest(model, folder)
    return taken


def _read_rest(model: onnx.ModelProto, folder: Path) -> None:
    external = [
        tensor
        for tensor in stored_tensors(model)
        if tensor.data_location == onnx.TensorProto.EXTERNAL
    ]
    if sum(map(_nbytes, external)) > MESSAGE_LIMIT // 2:
        raise ModelError(
            f"more than {MESSAGE_LIMIT // 2} bytes of its external data are not weights of their "
            "own but in Constant nodes, branches or many small tensors; store them as initializers"
        )
    for tensor in external:
        read_external(tensor, folder, _nbytes(tensor))


def _apart(tensor: onnx.TensorProto, folder: Path, nbytes: int) -> ir.TensorProtocol:
    """The tensor without its message."""
    dtype = _data_type(tensor)
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        flat = map_external(tensor, folder, nbytes)
    elif tensor.HasField("raw_data"):
        flat = np.frombuffer(tensor.raw_data, np.uint8)
    else:
        array = onnx.numpy_helper.to_array(tensor)
        return ir.Tensor(array, dtype, name=tensor.name)
    array = flat.view(dtype.numpy()).reshape(tuple(tensor.dims))
    return ir.Tensor(array, dtype, name=tensor.name)


def _data_type(tensor: onnx.TensorProto) -> ir.DataType:
    try:
        dtype = ir.DataType(tensor.data_type)
    except ValueError:
        dtype = ir.DataType.UNDEFINED
    if dtype == ir.DataType.UNDEFINED:
        raise ModelError(
            f"tensor {tensor.name!r} has unknown element type {tensor.data_type}; {FIX}"
        )
    return dtype


def _nbytes(tensor: onnx.TensorProto) -> int:
    """Bytes that the declared type and shape take; 0 for strings, which have no fixed size."""
    if any(dim < 0 for dim in tensor.dims):
        raise ModelError(
            f"tensor {tensor.name!r} declares shape {list(tensor.dims)} with a negative "
            f"dimension; {FIX}"
        )
    dtype = _data_type(tensor)
    if dtype == ir.DataType.STRING:
        return 0
    return int(-(-math.prod(tensor.dims) * dtype.bitwidth // 8))


def _check_embedded(tensor: onnx.TensorProto, dtype: ir.DataType) -> None:
    elements = math.prod(tensor.dims)
    if tensor.HasField("raw_data") and dtype != ir.DataType.STRING:
        stored, declared, unit = len(tensor.raw_data), _nbytes(tensor), "bytes"
    else:
        field = onnx.helper.tensor_dtype_to_field(tensor.data_type)
        stored, declared, unit = len(getattr(tensor, field)), elements, "values"
        if dtype in (ir.DataType.COMPLEX64, ir.DataType.COMPLEX128):
            declared *= 2
        elif dtype != ir.DataType.STRING and dtype.bitwidth < 8:
            declared = _nbytes(tensor)
    if stored != declared:
        raise ModelError(
            f"tensor {tensor.name!r} declares {dtype.name}{list(tensor.dims)}, which takes "
            f"{declared} {unit}, but stores {stored}; {FIX}"
        )
