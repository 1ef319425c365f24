"""A model taken apart: a small protobuf message, and the large weights as they lie in memory."""

from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from crespr_onnx.graph.tensor_data import LARGE

# Pages are what operating systems map.
_ALIGNMENT = 4096


@dataclass(frozen=True, eq=False)
class Weight:
    """A large initializer.

    Attributes:
        name: of the initializer.
        offset: where the message says that it is in the file of external data.
        tensor: its content.
    """

    name: str
    offset: int
    tensor: ir.TensorProtocol

    def raw(self) -> NDArray[np.uint8]:
        """Its bytes, not copied if they are in memory or mapped."""
        flat = np.ascontiguousarray(self.tensor.numpy()).reshape(-1)
        return flat.view(np.uint8)


@dataclass(frozen=True, eq=False)
class Parts:
    """A model whose large initializers are apart.

    Attributes:
        proto: the model; what is apart is declared as external data.
        weights: what is apart, in the order of the initializers.
    """

    proto: onnx.ModelProto
    weights: tuple[Weight, ...]


def weight_bytes(model: ir.Model) -> int:
    """Bytes of all initializers of the main graph."""
    tensors = (value.const_value for value in model.graph.initializers.values())
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)


def take_apart(model: ir.Model, location: str, *, large: int = LARGE) -> Parts:
    """Takes the large initializers out of a copy of a model.

    Args:
        model: any model; it stays as it is.
        location: what the message says is the file of external data.
        large: bytes from which an initializer is large.
    """
    # The clone shares all tensors.
    shell = model.clone()
    weights: list[Weight] = []
    end = 0
    for value in shell.graph.initializers.values():
        tensor = value.const_value
        if tensor is None or not value.name or tensor.nbytes < large or tensor.dtype.bitwidth < 8:
            continue
        offset = -(-end // _ALIGNMENT) * _ALIGNMENT
        weights.append(Weight(value.name, offset, tensor))
        end = offset + tensor.nbytes
        value.const_value = ir.ExternalTensor(
            location,
            offset,
            tensor.nbytes,
            tensor.dtype,
            shape=ir.Shape(tensor.shape.numpy()),
            name=value.name,
            doc_string=tensor.doc_string,
            metadata_props=dict(tensor.metadata_props),
        )
    return Parts(ir.to_proto(shell), tuple(weights))
