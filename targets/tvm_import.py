"""From an ONNX file to a TVM Relax module with static shapes.

Imports TVM: only processes of `worker` import this module.
"""

import contextlib
import io
import traceback
import warnings
from collections.abc import Mapping
from pathlib import Path

import onnx
import tvm
from tvm.relax.frontend.onnx import from_onnx

from crespr_onnx.errors import CompileError
from crespr_onnx.targets.brief import brief


def import_onnx(path: Path, input_shapes: Mapping[str, tuple[int, ...]]) -> tvm.IRModule:
    """Read an ONNX model into an IRModule whose function ``main`` takes the model's inputs.

    Args:
        path: an ONNX file with its constants folded.
        input_shapes: shape of every input whose shape is not fixed by the model.

    Raises:
        CompileError: TVM cannot import a node, or a shape is missing or contradicts the model.
    """
    model = onnx.load(path)
    _refuse_other_domains(model)
    shapes = static_shapes(model, input_shapes)
    try:
        # The importer prints and warns about what it does; its errors are turned into ours.
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            return from_onnx(model, shape_dict={name: list(s) for name, s in shapes.items()})
    except Exception as error:
        raise CompileError(
            f"TVM cannot import {_culprit(model, error)}: {brief(error)}\n"
            "Fold constants and shapes first, or use --target onnx."
        ) from error


def static_shapes(
    model: onnx.ModelProto, given: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...]]:
    """Shape of every input of the model, in the model's order.

    Raises:
        CompileError: an input is unknown, is not static, or disagrees with the model.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    unknown = sorted(set(given) - {value.name for value in inputs})
    if unknown:
        names = ", ".join(repr(value.name) for value in inputs)
        raise CompileError(f"no input {unknown[0]!r} to give a shape to; the model takes {names}")
    return {value.name: _static_shape(value, given.get(value.name)) for value in inputs}


def _static_shape(value: onnx.ValueInfoProto, given: tuple[int, ...] | None) -> tuple[int, ...]:
    # Paddle writes -1 for a size that is open.
    declared = [
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else dim.dim_param or "?"
        for dim in value.type.tensor_type.shape.dim
    ]
    if given is None:
        free = [dim for dim in declared if not isinstance(dim, int)]
        if free or not value.type.tensor_type.HasField("shape"):
            raise CompileError(
                f"input {value.name!r} has shape {declared}, but compiling needs fixed sizes; "
                f"give them with --input-shape {value.name}:1x..."
            )
        return tuple(int(dim) for dim in declared)
    fits = len(given) == len(declared) and all(
        not isinstance(dim, int) or dim == size for dim, size in zip(declared, given, strict=True)
    )
    if value.type.tensor_type.HasField("shape") and not fits:
        raise CompileError(
            f"input {value.name!r} has shape {declared} in the model, which {list(given)} does "
            "not fit"
        )
    return tuple(given)


def _refuse_other_domains(model: onnx.ModelProto) -> None:
    """TVM ignores domains: it would take a custom op for the standard one of the same name."""
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx"):
            raise CompileError(
                f"TVM cannot import node {node.name!r}: it is {node.domain}::{node.op_type}, and "
                "only standard ONNX operators are supported; use --target onnx"
            )


def _culprit(model: onnx.ModelProto, error: Exception) -> str:
    """The node at which the importer stopped."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        node = frame.f_locals.get("node")
        if isinstance(node, onnx.NodeProto):
            return f"node {node.name!r} ({node.op_type})"
    for node in model.graph.node:
        if node.op_type in str(error).replace(",", " ").split():
            return f"node {node.name!r} ({node.op_type})"
    return "the model"
