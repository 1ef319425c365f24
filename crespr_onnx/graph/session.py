"""Runs models in ONNX Runtime on the CPU."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray

from crespr_onnx.errors import ModelError
from crespr_onnx.graph.parts import take_apart, weight_bytes

AnyModel: TypeAlias = Path | onnx.ModelProto | ir.Model
Arrays = Mapping[str, NDArray[Any]]

FATAL = 4
MAX_SERIALISED = 2**28
"""Bytes of weights up to which a session is made from one message with all of them."""
# Weights that sessions read where they lie, which must live as long.
_WEIGHTS: WeakKeyDictionary[ort.InferenceSession, list[ort.OrtValue]] = WeakKeyDictionary()


def make_session(
    model: AnyModel, *, threads: int = 1, max_serialised: int = MAX_SERIALISED
) -> ort.InferenceSession:
    """Makes a session with all graph optimisations on and nothing written to the log.

    Args:
        model: a file, or a model in memory. A file is read as it is; see `load_model` for checks.
        threads: threads within an operator; operators run one after another.
        max_serialised: bytes of weights from which a model in memory lends its weights to the
            session instead of being serialised with them.

    Raises:
        ModelError: if ONNX Runtime cannot take the model.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    # What goes wrong arrives as an exception; the log would only say it twice.
    options.log_severity_level = FATAL
    try:
        source, weights = _source(model, options, max_serialised)
        session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    # ONNX Runtime's exceptions have no base class of their own.
    except Exception as error:
        name = f"{model}: " if isinstance(model, Path) else ""
        raise ModelError(f"{name}ONNX Runtime cannot load the model: {_reason(error)}") from error
    _WEIGHTS[session] = weights
    return session


def run(
    model: AnyModel | ort.InferenceSession, inputs: Arrays, *, threads: int = 1
) -> dict[str, NDArray[Any]]:
    """Runs a model once.

    Args:
        model: a model, or a session if there is more than one run.
        inputs: an array for every input, by name.
        threads: for the session that is made if `model` is none.

    Returns:
        Every output by name, in the order of the model.

    Raises:
        ModelError: if ONNX Runtime cannot load the model, or not run it on these inputs.
    """
    session = (
        model if isinstance(model, ort.InferenceSession) else make_session(model, threads=threads)
    )
    names = [output.name for output in session.get_outputs()]
    options = ort.RunOptions()
    options.log_severity_level = FATAL
    try:
        outputs = session.run(names, dict(inputs), options)
    except Exception as error:
        shapes = ", ".join(f"{name} {list(np.shape(array))}" for name, array in inputs.items())
        raise ModelError(
            f"ONNX Runtime cannot run the model on inputs {shapes}: {_reason(error)}"
        ) from error
    return dict(zip(names, outputs, strict=True))


def _source(
    model: AnyModel, options: ort.SessionOptions, max_serialised: int
) -> tuple[str | bytes, list[ort.OrtValue]]:
    """What the session is made from, and the weights that it borrows by way of the options."""
    if isinstance(model, Path):
        return str(model), []
    if not isinstance(model, ir.Model):
        return bytes(model.SerializeToString()), []
    if weight_bytes(model) <= max_serialised:
        return bytes(ir.to_proto(model).SerializeToString()), []
    parts = take_apart(model, "borrowed")
    values = [
        ort.OrtValue.ortvalue_from_numpy_with_onnx_type(w.tensor.numpy(), int(w.tensor.dtype))
        for w in parts.weights
    ]
    options.add_external_initializers([weight.name for weight in parts.weights], values)
    return bytes(parts.proto.SerializeToString()), values


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    # "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : what happened"
    text = text.split(" : ", 3)[-1] if text.startswith("[ONNXRuntimeError]") else text
    return (text or type(error).__name__)[:400]
