"""What an operator of an imported model is to relevance, told by its PyTorch module."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.modules import batchnorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from crespr_onnx.training.converters.node import Apply
from crespr_onnx.training.relevance.rules import Form

_CONVERTERS = "crespr_onnx.training.converters"
_MATRIX_PRODUCTS = frozenset({"_conv", "_conv_transpose", "_gemm"})
# Modules of onnx2torch are told by name, for importing it takes seconds.
_MOVES = frozenset(
    {
        "OnnxConcat", "OnnxTranspose", "OnnxCast", "OnnxCopyIdentity", "OnnxWhere", "Identity",
        "_cast", "_dropout",
    }
)  # fmt: skip
_MOVING_FILES = frozenset(f"{_CONVERTERS}.{name}" for name in ("shapes", "indexing", "pad"))
_ACTIVATIONS = frozenset(
    {
        "ReLU", "LeakyReLU", "ELU", "CELU", "SELU", "Sigmoid", "Tanh", "Softplus", "Softsign",
        "Hardswish", "OnnxHardSigmoid", "OnnxPReLU", "OnnxClip", "OnnxErf",
        "_clip", "_prelu", "_gelu", "_swish", "_thresholded", "_shrink", "_selu", "mish",
    }
)  # fmt: skip
_SOFTMAX = frozenset({"Softmax", "LogSoftmax", "OnnxSoftmaxV1V11"})
_TRANSPOSED: Mapping[int, Callable[..., Tensor]] = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}


def name_of(module: nn.Module) -> str:
    """What a module computes: the function of those that apply one, else its class."""
    if isinstance(module, Apply):
        return str(getattr(module.function, "__name__", ""))
    return type(module).__name__


def is_activation(module: nn.Module) -> bool:
    """Whether it is a function of single elements, through which relevance passes unchanged."""
    return name_of(module) in _ACTIVATIONS


def is_softmax(module: nn.Module) -> bool:
    """Whether it is a softmax or its logarithm."""
    return name_of(module) in _SOFTMAX


def is_move(module: nn.Module) -> bool:
    """Whether it only moves, copies, adds up or leaves out elements."""
    if isinstance(module, Apply) and module.function.__module__ in _MOVING_FILES:
        return True
    return name_of(module) in _MOVES


def is_convolution(module: nn.Module) -> bool:
    """Whether it is a convolution, transposed or not."""
    return isinstance(module, _ConvNd) or name_of(module) in ("_conv", "_conv_transpose")


def is_batch_norm(module: nn.Module) -> bool:
    """Whether it is a BatchNorm with fixed statistics."""
    return isinstance(module, batchnorm._BatchNorm) or name_of(module) == "_batch_norm"


def arithmetic(module: nn.Module) -> str | None:
    """`add`, `sub`, `mul` or `div` for such an operator of two tensors."""
    function = getattr(module, "math_op_function", None)
    name = getattr(function, "__name__", "").removeprefix("_onnx_")
    return name if name in ("add", "sub", "mul", "div") else None


def is_product(module: nn.Module) -> bool:
    """Whether it multiplies tensors with each other, elementwise or as matrices."""
    return arithmetic(module) == "mul" or name_of(module) in ("OnnxMatMul", "_gemm", "_einsum")


def is_sum(module: nn.Module) -> bool:
    """Whether it adds or subtracts tensors."""
    return arithmetic(module) in ("add", "sub") or name_of(module) == "OnnxSum"


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer with constant weights.

    Attributes:
        form: what it computes of its input and weight, without its bias.
        source: the node of its input.
        weight: its weight, as the module stores it.
    """

    form: Form
    source: fx.Node
    weight: Tensor


def bilinear(
    node: fx.Node, module: nn.Module, live: frozenset[fx.Node], values: Mapping[fx.Node, Any]
) -> Layer | None:
    """What a node computes as a layer with constant weights.

    Returns:
        None for anything else, products of two computed tensors among them.
    """
    computed = [a for a in node.all_input_nodes if a in live]
    if len(computed) != 1 or not node.args:
        return None
    source = computed[0]
    if isinstance(module, nn.Linear):
        return Layer(functional.linear, source, module.weight)
    if isinstance(module, _ConvNd):
        return Layer(_convolution(module), source, module.weight)
    arguments: Sequence[Any] = node.args
    if len(arguments) < 2 or not isinstance(other := arguments[1], fx.Node):
        return None
    name = name_of(module)
    if name == "OnnxMatMul":
        if source is arguments[0]:
            return Layer(torch.matmul, source, values[other])
        return Layer(_reversed_product, source, values[arguments[0]])
    if isinstance(module, Apply) and name in _MATRIX_PRODUCTS and source is arguments[0]:
        return Layer(partial(_applied, module), source, values[other])
    return None


def _convolution(layer: _ConvNd) -> Form:
    if isinstance(layer, _ConvTransposeNd):
        settings = (layer.stride, layer.padding, layer.output_padding, layer.groups, layer.dilation)
        transposed = _TRANSPOSED[layer.weight.dim() - 2]
        return lambda x, weight: transposed(x, weight, None, *settings)
    assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    return lambda x, weight: layer._conv_forward(x, weight, None)


def _applied(layer: Apply, x: Tensor, weight: Tensor) -> Tensor:
    result = layer.function(x, weight, None, **layer.settings)
    assert isinstance(result, Tensor)
    return result


def _reversed_product(x: Tensor, weight: Tensor) -> Tensor:
    return torch.matmul(weight, x)
