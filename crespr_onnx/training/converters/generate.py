"""Operators that make tensors: constants, ranges, one-hot rows."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from crespr_onnx.training.converters.node import (
    CannotConvertError,
    Converted,
    Ints,
    Node,
    apply,
    ints,
)


class Constant(nn.Module):
    """Returns a tensor that moves with the module."""

    value: Tensor

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.register_buffer("value", value)

    def forward(self) -> Tensor:
        """The tensor."""
        return self.value


def constant(node: Node) -> Converted:
    """Constant of every kind but texts and sparse tensors."""
    ((name, value),) = node.attributes.items()
    if isinstance(value, Tensor):
        return Converted(Constant(value), ())
    types = {"value_float": torch.float32, "value_floats": torch.float32}
    types |= {"value_int": torch.int64, "value_ints": torch.int64}
    if name not in types:
        raise CannotConvertError(f"its {name} has no PyTorch counterpart")
    return Converted(Constant(torch.tensor(value, dtype=types[name])), ())


def _range(start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    first, last, step = (x.reshape(()) for x in (start, limit, delta))
    count = max(math.ceil((last.item() - first.item()) / step.item()), 0)
    # Half precision cannot count far, so it is float32 that counts.
    dtype = torch.float32 if start.dtype in (torch.float16, torch.bfloat16) else start.dtype
    steps = torch.arange(count, device=start.device).to(dtype)
    return (first.to(dtype) + steps * step.to(dtype)).to(start.dtype)


def range_(node: Node) -> Converted:
    """Range."""
    return apply(node, _range)


def _fill(shape: Ints, *, value: Tensor) -> Tensor:
    device = shape.device if isinstance(shape, Tensor) else None
    return torch.full(ints(shape), value.item(), dtype=value.dtype, device=device)


def constant_of_shape(node: Node) -> Converted:
    """ConstantOfShape; its shape stays an operand, which knows the device."""
    value = node.get("value", torch.zeros(1))
    return apply(node, _fill, value=value)


def _one_hot(
    indices: Tensor,
    depth: Ints,
    values: Tensor | Sequence[float],
    *,
    axis: int,
    dtype: torch.dtype | None,
) -> Tensor:
    (size,) = ints(depth)
    dim = axis % (indices.dim() + 1)
    index = indices.long()
    index = torch.where(index < 0, index + size, index).unsqueeze(dim)
    rows = torch.arange(size, device=indices.device)
    hot = index == rows.reshape(-1, *[1] * (indices.dim() - dim))
    off, on = torch.as_tensor(values, dtype=dtype, device=indices.device)
    return torch.where(hot, on, off)


def one_hot(node: Node) -> Converted:
    """OneHot."""
    values = node.constant(2)
    dtype = None if values is None else values.dtype
    return apply(node, _one_hot, read=(1, 2), axis=node.get("axis", -1), dtype=dtype)
