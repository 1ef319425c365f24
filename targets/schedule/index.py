"""Positions in tensors whose axes are seen as one."""

from collections.abc import Sequence

import tvm


def unflatten(index: tvm.ir.Expr, shape: Sequence[int]) -> list[tvm.ir.Expr]:
    """The multi-dimensional index of a position in a tensor of that shape."""
    result = []
    for size in reversed(shape[1:]):
        result.append(index % size)
        index = index // size
    return [index, *reversed(result)][: len(shape)]


def flatten(index: Sequence[tvm.ir.Expr], shape: Sequence[int]) -> tvm.ir.Expr:
    """The position of a multi-dimensional index in a tensor of that shape."""
    position = tvm.tirx.const(0, "int64")
    for size, i in zip(shape, index, strict=True):
        position = position * size + i
    return position


def static_shape(value: tvm.ir.Expr) -> list[int] | None:
    """The shape of a float32 tensor; None if it is of another type or open."""
    shape = getattr(value.ty, "shape", None)
    if shape is None or str(value.ty.dtype) != "float32":
        return None
    sizes = list(shape)
    return [int(s) for s in sizes] if all(isinstance(s, tvm.tirx.IntImm) for s in sizes) else None
