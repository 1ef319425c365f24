"""Operators that change or read shapes, and keep every element."""

import torch
from torch import Tensor

from crespr_onnx.training.converters.node import Converted, Ints, Node, apply, ints


def _reshape(x: Tensor, shape: Ints, *, zero_copies: bool) -> Tensor:
    sizes = ints(shape)
    if zero_copies:
        sizes = [x.shape[i] if size == 0 else size for i, size in enumerate(sizes)]
    return x.reshape(sizes)


def reshape(node: Node) -> Converted:
    """Reshape, with or without allowzero."""
    return apply(node, _reshape, read=(1,), zero_copies=not node.get("allowzero", 0))


def _shape(x: Tensor, *, start: int, end: int | None) -> Tensor:
    return torch.tensor(x.shape[start:end], dtype=torch.int64, device=x.device)


def shape(node: Node) -> Converted:
    """Shape, and from version 15 a slice of it."""
    return apply(node, _shape, start=node.get("start", 0), end=node.get("end"))


def _size(x: Tensor) -> Tensor:
    return torch.tensor(x.numel(), device=x.device)


def size(node: Node) -> Converted:
    """Size, the number of elements."""
    return apply(node, _size)


def _squeeze(x: Tensor, axes: Ints | None = None) -> Tensor:
    return x.squeeze() if axes is None else x.squeeze(ints(axes))


def squeeze(node: Node) -> Converted:
    """Squeeze: axes are an attribute, later an input."""
    return apply(node, _squeeze, read=(1,), given=node.as_input("axes", 1))


def _unsqueeze(x: Tensor, axes: Ints) -> Tensor:
    chosen = ints(axes)
    rank = x.dim() + len(chosen)
    for axis in sorted(a % rank for a in chosen):
        x = x.unsqueeze(axis)
    return x


def unsqueeze(node: Node) -> Converted:
    """Unsqueeze: axes are an attribute, later an input."""
    return apply(node, _unsqueeze, read=(1,), given=node.as_input("axes", 1))


def _expand(x: Tensor, shape: Ints) -> Tensor:
    sizes = torch.broadcast_shapes(x.shape, ints(shape))  # type: ignore[no-untyped-call]
    return x.expand(sizes)


def expand(node: Node) -> Converted:
    """Expand, whose shape and input broadcast to each other."""
    return apply(node, _expand, read=(1,))


def _flatten(x: Tensor, *, axis: int) -> Tensor:
    first = axis if axis >= 0 else axis + x.dim()
    # Torch cannot tell the size of -1 where there is no element.
    return x.reshape(x.shape[:first].numel(), x.shape[first:].numel())


def flatten(node: Node) -> Converted:
    """Flatten to a matrix."""
    return apply(node, _flatten, axis=node.get("axis", 1))


def _tile(x: Tensor, repeats: Ints) -> Tensor:
    return x.repeat(ints(repeats))


def tile(node: Node) -> Converted:
    """Tile."""
    return apply(node, _tile, read=(1,))


def _depth_to_space(x: Tensor, *, block: int, depth_first: bool) -> Tensor:
    n, c, h, w = x.shape
    inner = c // block**2
    if depth_first:
        x = x.reshape(n, block, block, inner, h, w).permute(0, 3, 4, 1, 5, 2)
    else:
        x = x.reshape(n, inner, block, block, h, w).permute(0, 1, 4, 2, 5, 3)
    return x.reshape(n, inner, h * block, w * block)


def depth_to_space(node: Node) -> Converted:
    """DepthToSpace in both orders."""
    mode = node.get("mode", "DCR")
    return apply(node, _depth_to_space, block=node.get("blocksize"), depth_first=mode == "DCR")


def _space_to_depth(x: Tensor, *, block: int, depth_first: bool) -> Tensor:
    n, c, h, w = x.shape
    x = x.reshape(n, c, h // block, block, w // block, block)
    x = x.permute(0, 3, 5, 1, 2, 4) if depth_first else x.permute(0, 1, 3, 5, 2, 4)
    return x.reshape(n, c * block**2, h // block, w // block)


def space_to_depth(node: Node) -> Converted:
    """SpaceToDepth, from version 28 on in both orders."""
    mode = node.get("mode", "DCR")
    return apply(node, _space_to_depth, block=node.get("blocksize"), depth_first=mode == "DCR")
