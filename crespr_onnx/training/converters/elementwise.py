"""Operators that treat every element alike, besides those that onnx2torch has."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import onnx
import torch
from torch import Tensor
from torch.nn import functional

from crespr_onnx.training.converters.node import CannotConvertError, Converted, Node, apply

Bound: TypeAlias = Tensor | float | list[float] | None
"""A bound of Clip: computed, or known at import, where one of shape [1] comes as a list."""

_UNARY: Mapping[str, Callable[[Tensor], Tensor]] = {
    "Acosh": torch.acosh,
    "Asinh": torch.asinh,
    "Atanh": torch.atanh,
    "BitwiseNot": torch.bitwise_not,
    "Cosh": torch.cosh,
    "Mish": functional.mish,
    "Sinh": torch.sinh,
}
_BITWISE: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "BitwiseAnd": torch.bitwise_and,
    "BitwiseOr": torch.bitwise_or,
    "BitwiseXor": torch.bitwise_xor,
}
_TYPES: Mapping[int, torch.dtype] = {
    onnx.TensorProto.FLOAT: torch.float32,
    onnx.TensorProto.UINT8: torch.uint8,
    onnx.TensorProto.INT8: torch.int8,
    onnx.TensorProto.UINT16: torch.uint16,
    onnx.TensorProto.INT16: torch.int16,
    onnx.TensorProto.INT32: torch.int32,
    onnx.TensorProto.INT64: torch.int64,
    onnx.TensorProto.BOOL: torch.bool,
    onnx.TensorProto.FLOAT16: torch.float16,
    onnx.TensorProto.DOUBLE: torch.float64,
    onnx.TensorProto.UINT32: torch.uint32,
    onnx.TensorProto.UINT64: torch.uint64,
    onnx.TensorProto.BFLOAT16: torch.bfloat16,
}


def unary(node: Node) -> Converted:
    """Functions of one tensor without settings."""
    return apply(node, _UNARY[node.op])


def bitwise(node: Node) -> Converted:
    """Bitwise functions of two tensors."""
    return apply(node, _BITWISE[node.op])


def _cast(x: Tensor, *, dtype: torch.dtype) -> Tensor:
    return x.to(dtype)


def cast(node: Node) -> Converted:
    """Cast to a type that PyTorch has; what newer versions add concerns 8-bit floats alone."""
    code = node.get("to")
    if code not in _TYPES:
        name = onnx.TensorProto.DataType.Name(code)
        raise CannotConvertError(f"a cast to {name} has no PyTorch counterpart")
    return apply(node, _cast, dtype=_TYPES[code])


def _cast_like(x: Tensor, like: Tensor) -> Tensor:
    return x.to(like.dtype)


def cast_like(node: Node) -> Converted:
    """CastLike."""
    return apply(node, _cast_like)


def _clip(x: Tensor, low: Bound = None, high: Bound = None) -> Tensor:
    least, most = (b[0] if isinstance(b, list) else b for b in (low, high))
    if least is None and most is None:
        return x
    if isinstance(least, Tensor) or isinstance(most, Tensor):
        # PyTorch takes both bounds as tensors or both as numbers.
        least, most = (_as_tensor(b, x) for b in (least, most))
        return torch.clamp(x, least, most)
    return torch.clamp(x, least, most)


def _as_tensor(bound: Tensor | float | None, x: Tensor) -> Tensor | None:
    return torch.as_tensor(bound, dtype=x.dtype, device=x.device) if bound is not None else None


def clip(node: Node) -> Converted:
    """Clip: bounds are attributes, later inputs, constant or not."""
    given = {1: node.get("min"), 2: node.get("max")} if node.version < 11 else {}
    return apply(node, _clip, read=(1, 2), given=given)


def _prelu(x: Tensor, slope: Tensor) -> Tensor:
    return x.clamp(min=0) + slope * x.clamp(max=0)


def prelu(node: Node) -> Converted:
    """PRelu, whose slope broadcasts from the last axis."""
    return apply(node, _prelu)


def _gelu(x: Tensor, *, approximate: str) -> Tensor:
    return functional.gelu(x, approximate=approximate)


def gelu(node: Node) -> Converted:
    """Gelu, exact or by tanh."""
    return apply(node, _gelu, approximate=node.get("approximate", "none"))


def _swish(x: Tensor, *, alpha: float) -> Tensor:
    return x * torch.sigmoid(alpha * x)


def swish(node: Node) -> Converted:
    """Swish."""
    return apply(node, _swish, alpha=node.get("alpha", 1.0))


def _thresholded(x: Tensor, *, alpha: float) -> Tensor:
    return functional.threshold(x, alpha, 0.0)


def thresholded_relu(node: Node) -> Converted:
    """ThresholdedRelu."""
    return apply(node, _thresholded, alpha=node.get("alpha", 1.0))


def _shrink(x: Tensor, *, threshold: float, bias: float) -> Tensor:
    kept = torch.where(x > threshold, x - bias, 0)
    return torch.where(x < -threshold, x + bias, kept).to(x.dtype)


def shrink(node: Node) -> Converted:
    """Shrink."""
    return apply(node, _shrink, threshold=node.get("lambd", 0.5), bias=node.get("bias", 0.0))


def _is_inf(x: Tensor, *, positive: bool, negative: bool) -> Tensor:
    found = torch.isposinf(x) if positive else torch.zeros_like(x, dtype=torch.bool)
    return found | torch.isneginf(x) if negative else found


def is_inf(node: Node) -> Converted:
    """IsInf of one sign or both."""
    positive = bool(node.get("detect_positive", 1))
    negative = bool(node.get("detect_negative", 1))
    return apply(node, _is_inf, positive=positive, negative=negative)


def _pow(x: Tensor, exponent: Tensor) -> Tensor:
    return torch.pow(x, exponent).to(x.dtype)


def pow_(node: Node) -> Converted:
    """Pow, whose result has the type of the base."""
    return apply(node, _pow)


def _mod(x: Tensor, y: Tensor, *, truncate: bool) -> Tensor:
    return torch.fmod(x, y) if truncate else torch.remainder(x, y)


def mod(node: Node) -> Converted:
    """Mod: the sign of the divisor, or with fmod that of the dividend."""
    return apply(node, _mod, truncate=bool(node.get("fmod", 0)))


def _shift(x: Tensor, by: Tensor, *, left: bool) -> Tensor:
    # PyTorch shifts no unsigned numbers besides bytes.
    wide, amount = x.long(), by.long()
    result = wide << amount if left else wide >> amount
    return result.to(x.dtype)


def shift(node: Node) -> Converted:
    """BitShift."""
    return apply(node, _shift, left=node.get("direction") == "LEFT")


def _selu(x: Tensor, *, alpha: float, gamma: float) -> Tensor:
    return gamma * functional.elu(x, alpha)


def selu(node: Node) -> Converted:
    """Selu with any coefficients; the defaults are the published ones in float32."""
    alpha = node.get("alpha", 1.6732631921768188)
    return apply(node, _selu, alpha=alpha, gamma=node.get("gamma", 1.0507010221481323))


def _dropout(x: Tensor, *_: Tensor | float | None, kept: bool, as_bool: bool) -> tuple[Tensor, ...]:
    mask = torch.full_like(x, kept, dtype=torch.bool if as_bool else x.dtype)
    return x, mask


def dropout(node: Node) -> Converted:
    """Dropout as it is in inference: nothing is dropped.

    Raises:
        CannotConvertError: if the model asks for training mode itself.
    """
    mode = node.constant(2)
    if node.has(2) and (mode is None or bool(mode)):
        raise CannotConvertError("it is in training mode")
    # What the mask says about inference changed, and so did its type.
    return apply(node, _dropout, read=(1, 2), kept=node.version >= 12, as_bool=node.version >= 10)
