"""The interface of a model: what goes in, what comes out."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from crespr_onnx.errors import ModelError

Dim = int | str | None


@dataclass(frozen=True)
class TensorSpec:
    """Name, element type and shape of one input or output.

    Attributes:
        name: name of the tensor.
        dtype: element type; `object` for strings.
        dims: per axis its length, its symbol, or None if nothing is declared; None as a whole if
            even the rank is unknown.
    """

    name: str
    dtype: np.dtype[Any]
    dims: tuple[Dim, ...] | None

    @property
    def dynamic_batch(self) -> bool:
        """Whether the first axis may have any length."""
        return bool(self.dims) and not isinstance(self.dims[0], int)  # type: ignore[index]

    def __str__(self) -> str:
        dtype = "string" if self.dtype == object else str(self.dtype)
        dims = ["..."] if self.dims is None else ["?" if d is None else str(d) for d in self.dims]
        return f"{self.name}: {dtype}[{','.join(dims)}]"


@dataclass(frozen=True)
class ModelSignature:
    """All inputs and outputs of a model, in order. Initializers are not inputs."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def classes(self) -> int | None:
        """Length of the first output's last axis, if that is fixed and more than one."""
        dims = self.outputs[0].dims
        last = dims[-1] if dims else None
        return last if isinstance(last, int) and last > 1 else None

    def __str__(self) -> str:
        inputs = ", ".join(map(str, self.inputs))
        return f"{inputs} -> {', '.join(map(str, self.outputs))}"


def signature_of(model: ir.Model) -> ModelSignature:
    """Reads the interface of a model.

    Raises:
        ModelError: if an input or output has no name, or is not a tensor of known type.
    """
    graph = model.graph
    inputs = [value for value in graph.inputs if not value.is_initializer()]
    return ModelSignature(
        inputs=tuple(_spec(value, "input") for value in inputs),
        outputs=tuple(_spec(value, "output") for value in graph.outputs),
    )


def _spec(value: ir.Value, role: str) -> TensorSpec:
    if not value.name:
        raise ModelError(f"an {role} of the model has no name; name every input and output")
    if value.type is not None and not isinstance(value.type, ir.TensorType):
        raise ModelError(
            f"{role} {value.name!r} is not a plain tensor but {value.type}; "
            "sequences, maps, optional and sparse values are not supported"
        )
    if value.dtype is None or value.dtype == ir.DataType.UNDEFINED:
        raise ModelError(
            f"{role} {value.name!r} has no element type; declare one, or export the model again"
        )
    dims = None if value.shape is None else tuple(_dim(d) for d in value.shape)
    return TensorSpec(value.name, np.dtype(value.dtype.numpy()), dims)


def _dim(dim: int | ir.SymbolicDim) -> Dim:
    # Paddle exports write -1 and "?" where ONNX leaves a dimension out.
    if isinstance(dim, int):
        return dim if dim > 0 else None
    return None if dim.value in (None, "", "?") else str(dim.value)
