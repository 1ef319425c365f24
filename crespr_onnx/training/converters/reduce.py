"""Reductions over axes, and the positions of extremes."""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from crespr_onnx.training.converters.node import Converted, Ints, Node, apply, ints

Reduction = Callable[[Tensor, list[int]], Tensor]
"""Reduces the axes of a list, which is never empty, to length 1."""


def _mean(x: Tensor, axes: list[int]) -> Tensor:
    if x.is_floating_point():
        return x.mean(axes, keepdim=True)
    count = math.prod(x.shape[a] for a in axes)
    return torch.div(x.sum(axes, keepdim=True), count, rounding_mode="trunc").to(x.dtype)


def _prod(x: Tensor, axes: list[int]) -> Tensor:
    for axis in axes:
        x = x.prod(axis, keepdim=True, dtype=x.dtype)
    return x


def _norm(x: Tensor, axes: list[int]) -> Tensor:
    real = x if x.is_floating_point() else x.double()
    # Unlike the root of a sum, its gradient at zero is zero.
    norm: Tensor = torch.linalg.vector_norm(real, 2, axes, keepdim=True)
    return norm.to(x.dtype)


def _log_sum_exp(x: Tensor, axes: list[int]) -> Tensor:
    real = x if x.is_floating_point() else x.double()
    return torch.logsumexp(real, axes, keepdim=True).to(x.dtype)


def _log_sum(x: Tensor, axes: list[int]) -> Tensor:
    return x.sum(axes, keepdim=True).log().to(x.dtype)


def _sum(x: Tensor, axes: list[int]) -> Tensor:
    return x.sum(axes, keepdim=True, dtype=x.dtype)


_REDUCTIONS: Mapping[str, Reduction] = {
    "ReduceL1": lambda x, axes: _sum(x.abs(), axes),
    "ReduceL2": _norm,
    "ReduceLogSum": _log_sum,
    "ReduceLogSumExp": _log_sum_exp,
    "ReduceMax": lambda x, axes: x.amax(axes, keepdim=True),
    "ReduceMean": _mean,
    "ReduceMin": lambda x, axes: x.amin(axes, keepdim=True),
    "ReduceProd": _prod,
    "ReduceSum": _sum,
    "ReduceSumSquare": lambda x, axes: _sum(x * x, axes),
}


def _reduce(x: Tensor, axes: Ints | None = None, *, op: str, keepdims: bool, noop: bool) -> Tensor:
    chosen = [] if axes is None else ints(axes)
    if not chosen and noop:
        # Over no axes: only what the operator does to each element is left.
        return _REDUCTIONS[op](x.unsqueeze(-1), [x.dim()]).squeeze(-1)
    chosen = sorted({axis % x.dim() for axis in chosen} or range(x.dim()))
    if not chosen:  # a scalar
        return _REDUCTIONS[op](x.unsqueeze(0), [0]).squeeze(0)
    result = _REDUCTIONS[op](x, chosen)
    if keepdims:
        return result
    return result.reshape([n for axis, n in enumerate(x.shape) if axis not in chosen])


def reduce(node: Node) -> Converted:
    """Reduce* of every version: axes are an attribute, later an input."""
    return apply(
        node,
        _reduce,
        read=(1,),
        given=node.as_input("axes", 1),
        op=node.op,
        keepdims=bool(node.get("keepdims", 1)),
        noop=bool(node.get("noop_with_empty_axes", 0)),
    )


def _arg_extreme(x: Tensor, *, largest: bool, axis: int, keepdims: bool, last: bool) -> Tensor:
    if last:
        flipped = _arg_extreme(
            x.flip(axis), largest=largest, axis=axis, keepdims=keepdims, last=False
        )
        return x.shape[axis] - 1 - flipped
    return (torch.argmax if largest else torch.argmin)(x, dim=axis, keepdim=keepdims)


def arg_extreme(node: Node) -> Converted:
    """ArgMax and ArgMin."""
    return apply(
        node,
        _arg_extreme,
        largest=node.op == "ArgMax",
        axis=node.get("axis", 0),
        keepdims=bool(node.get("keepdims", 1)),
        last=bool(node.get("select_last_index", 0)),
    )


def _top_k(x: Tensor, k: Ints, *, axis: int, largest: bool) -> tuple[Tensor, ...]:
    # Of equal elements the first come first, which torch.topk does not promise.
    values, indices = torch.sort(x, dim=axis, descending=largest, stable=True)
    (count,) = ints(k)
    return values.narrow(axis, 0, count), indices.narrow(axis, 0, count)


def top_k(node: Node) -> Converted:
    """TopK; whether it is sorted makes no difference to what is promised."""
    return apply(
        node,
        _top_k,
        read=(1,),
        given=node.as_input("k", 1),
        axis=node.get("axis", -1),
        largest=bool(node.get("largest", 1)),
    )


def _cumulate(x: Tensor, axis: Ints, *, product: bool, exclusive: bool, reverse: bool) -> Tensor:
    (dim,) = ints(axis)
    if reverse:
        x = x.flip(dim)
    if exclusive:
        start = torch.full_like(x.narrow(dim, 0, 1), int(product))
        x = torch.cat([start, x.narrow(dim, 0, x.shape[dim] - 1)], dim)
    result = (torch.cumprod if product else torch.cumsum)(x, dim, dtype=x.dtype)
    return result.flip(dim) if reverse else result


def cumulate(node: Node) -> Converted:
    """CumSum and CumProd."""
    return apply(
        node,
        _cumulate,
        read=(1,),
        product=node.op == "CumProd",
        exclusive=bool(node.get("exclusive", 0)),
        reverse=bool(node.get("reverse", 0)),
    )
