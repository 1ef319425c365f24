"""Turns a float32 model into an int8 one, by ONNX Runtime's own static quantiser."""

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from crespr_onnx.errors import ModelError
from crespr_onnx.graph.foreign_tool import quiet, read_back, to_one_message
from crespr_onnx.graph.session import Arrays

# DequantizeLinear knows a scale per channel from here on.
PER_CHANNEL_OPSET = 13
BIASED = frozenset({"Conv", "ConvTranspose", "Gemm"})


@dataclass(frozen=True)
class Int8Scheme:
    """How numbers become eight bits, which depends on the machine's instructions.

    Attributes:
        signed: activations are int8 rather than uint8.
        symmetric: zero is the middle of the range of activations.
        reduced: weights use seven bits, so that the products of older x86 processors, which add up
            pairs in 16 bits, cannot overflow.
    """

    signed: bool = False
    symmetric: bool = False
    reduced: bool = False

    def __str__(self) -> str:
        activations = f"{'symmetric ' if self.symmetric else ''}{'' if self.signed else 'u'}int8"
        return f"{activations} activations, int8 weights{' of 7 bits' if self.reduced else ''}"


# As ONNX Runtime advises for each kind of machine in the documentation of quantize_static.
X86 = Int8Scheme(reduced=True)
ARM = Int8Scheme(signed=True)
GPU = Int8Scheme(signed=True, symmetric=True)


def to_int8(model: ir.Model, batches: Iterable[Arrays], scheme: Int8Scheme) -> ir.Model:
    """A copy in which what can be is computed on eight bits, between Quantize/DequantizeLinear.

    Weights of convolutions and plain products have a scale per output channel; the stacked
    matrices of a batched product share one, as ONNX Runtime multiplies no others in int8.
    Activations have one per tensor, from the least to the largest value that they take on the
    batches. Inputs and outputs stay as they are.

    Args:
        model: a float32 model with less than 2 GiB of weights; it stays as it is. Below opset 10,
            which has no such operators, the copy is raised to opset 11.
        batches: inputs by name to calibrate on.
        scheme: what the machine wants.

    Raises:
        ModelError: if the quantiser cannot take the model.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    proto = to_one_message(model)
    _own_biases(proto.graph)
    opset = model.opset_imports.get("", 0)
    try:
        with quiet(), tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "int8.onnx"
            quantize_static(
                proto,
                path,
                _Reader(batches),
                quant_format=QuantFormat.QDQ,
                per_channel=opset >= PER_CHANNEL_OPSET,
                reduce_range=scheme.reduced,
                activation_type=QuantType.QInt8 if scheme.signed else QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                extra_options={
                    "ActivationSymmetric": scheme.symmetric,
                    "TensorQuantOverrides": {name: [{}] for name in _stacked_weights(proto)},
                },
            )
            return read_back(onnx.load(path), model)
    # The quantiser raises whatever it stumbles over.
    except Exception as error:
        raise ModelError(
            f"the model cannot be quantised to int8: {error or type(error).__name__}"
        ) from error


class _Reader:
    """Batches as the quantiser asks for them: one at a time, and None at the end."""

    def __init__(self, batches: Iterable[Arrays]) -> None:
        self._batches = iter(batches)

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self._batches, None)
        return None if batch is None else dict(batch)


def _own_biases(graph: onnx.GraphProto) -> None:
    """Gives every node a bias of its own.

    The quantiser copies a bias that several share to its name and a number, which may be the name
    of something else.
    """
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    names = {name for node in graph.node for name in (*node.input, *node.output)} | tensors.keys()
    seen: set[str] = set()
    for node in graph.node:
        bias = node.input[2] if node.op_type in BIASED and len(node.input) > 2 else ""
        if bias not in tensors or bias not in seen:
            seen.add(bias)
            continue
        number = next(n for n in count(len(seen)) if f"{bias}/{n}" not in names)
        node.input[2] = f"{bias}/{number}"
        names.add(node.input[2])
        copy = graph.initializer.add()
        copy.CopyFrom(tensors[bias])
        copy.name = node.input[2]


def _stacked_weights(proto: onnx.ModelProto) -> list[str]:
    """Weights of batched products; an empty override gives each of them a single scale."""
    stacked = {tensor.name for tensor in proto.graph.initializer if len(tensor.dims) > 2}
    read = {name for node in proto.graph.node if node.op_type == "MatMul" for name in node.input}
    return sorted(stacked & read)
