"""Pad of every version and mode."""

import torch
from torch import Tensor
from torch.nn import functional

from crespr_onnx.training.converters.node import (
    CannotConvertError,
    Converted,
    Ints,
    Node,
    apply,
    ints,
)


def pad_constant(x: Tensor, pads: list[tuple[int, int]], value: float) -> Tensor:
    """Pads each axis by (before, after); negative numbers cut."""
    return functional.pad(x, [n for pair in reversed(pads) for n in pair], value=value)


def _source(before: int, after: int, size: int, mode: str, device: torch.device) -> Tensor:
    """For each position along a padded axis, the position whose element it copies."""
    index = torch.arange(-before, size + after, device=device)
    if mode == "edge":
        return index.clamp(0, size - 1)
    if mode == "wrap":
        return index % size
    if size == 1:
        return torch.zeros_like(index)
    period = 2 * (size - 1)
    index = index % period
    return torch.where(index < size, index, period - index)


def _pad(
    x: Tensor,
    pads: Ints,
    value: Tensor | float | None = None,
    axes: Ints | None = None,
    *,
    mode: str,
) -> Tensor:
    numbers = ints(pads)
    chosen = list(range(x.dim())) if axes is None else [a % x.dim() for a in ints(axes)]
    amounts = [(0, 0)] * x.dim()
    for axis, before, after in zip(
        chosen, numbers[: len(chosen)], numbers[len(chosen) :], strict=True
    ):
        amounts[axis] = (before, after)
    if mode == "constant":
        return pad_constant(x, amounts, 0 if value is None else _number(value))
    for axis, (before, after) in enumerate(amounts):
        if before or after:
            x = x.index_select(axis, _source(before, after, x.shape[axis], mode, x.device))
    return x


def _number(value: Tensor | float | list[float]) -> float:
    if isinstance(value, Tensor):
        return float(value.item())
    return float(value[0]) if isinstance(value, list) else value


def pad(node: Node) -> Converted:
    """Pad: pads and value are attributes, later inputs, and the axes an input."""
    mode = node.get("mode", "constant")
    if mode not in ("constant", "edge", "reflect", "wrap"):
        raise CannotConvertError(f"its mode '{mode}' is not known")
    given = node.as_input("pads", 1)
    if node.version < 11:
        given[2] = node.get("value", 0.0)
    return apply(node, _pad, read=(1, 2, 3), given=given, mode=mode)
