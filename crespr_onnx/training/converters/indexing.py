"""Operators that pick elements: slices, gathers, scatters and splits."""

from collections.abc import Mapping
from itertools import accumulate, pairwise

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

_FEW_CHANNELS = 128
# ONNX Runtime reads these ends as the last element of the walk, be it forwards or backwards.
_TO_THE_END = (2**31 - 1, 2**63 - 1)


def _slice(
    x: Tensor, starts: Ints, ends: Ints, axes: Ints | None = None, steps: Ints | None = None
) -> Tensor:
    first, last = ints(starts), ints(ends)
    dims = list(range(len(first))) if axes is None else ints(axes)
    strides = [1] * len(first) if steps is None else ints(steps)
    for dim, start, end, step in zip(dims, first, last, strides, strict=True):
        picked = _positions(start, end, step, x.shape[dim])
        if step > 0:
            bounds = [slice(None)] * x.dim()
            bounds[dim] = slice(picked.start, picked.stop, step)
            x = x[tuple(bounds)]
        else:
            x = x.index_select(dim, torch.tensor(list(picked), dtype=torch.int64, device=x.device))
    return x


def _positions(start: int, end: int, step: int, size: int) -> range:
    """Positions that a slice picks; bounds are clamped as ONNX does, other than Python."""
    first = start + size if start < 0 else start
    last = end + size if end < 0 else end
    if step > 0:
        return range(min(max(first, 0), size), min(max(last, 0), size), step)
    last = -1 if end in _TO_THE_END else min(max(last, -1), size - 1)
    return range(min(max(first, 0), size - 1), last, step)


def slice_(node: Node) -> Converted:
    """Slice: all but the data are attributes, later inputs."""
    given: dict[int, list[int]] = {}
    for index, name in enumerate(("starts", "ends", "axes"), start=1):
        given |= node.as_input(name, index)
    return apply(node, _slice, read=(1, 2, 3, 4), given=given)


def _split(x: Tensor, sizes: Ints | None = None, *, axis: int, parts: int) -> tuple[Tensor, ...]:
    if sizes is not None:
        return torch.split_with_sizes(x, ints(sizes), axis)
    # All of the same size, but for the last, which may be smaller.
    length = x.shape[axis]
    each = -(-length // parts)
    ends = [min(i * each, length) for i in range(parts + 1)]
    return tuple(x.narrow(axis, start, end - start) for start, end in pairwise(ends))


def split(node: Node) -> Converted:
    """Split into given sizes or equal parts."""
    return apply(
        node,
        _split,
        read=(1,),
        given=node.as_input("split", 1),
        axis=node.get("axis", 0),
        parts=node.get("num_outputs", len(node.outputs)),
    )


def _positive(indices: Tensor, size: int) -> Tensor:
    indices = indices.long()
    return torch.where(indices < 0, indices + size, indices)


def _gather(x: Tensor, indices: Tensor, *, axis: int) -> Tensor:
    dim = axis % x.dim()
    index = _positive(indices, x.shape[dim])
    if _channels_of_images(x, dim) and index.dim() == 1:
        return _pick_channels(x, index)
    picked = x.index_select(dim, index.flatten())
    return picked.reshape((*x.shape[:dim], *index.shape, *x.shape[dim + 1 :]))


def _channels_of_images(x: Tensor, dim: int) -> bool:
    return x.dim() == 4 and dim == 1 and x.shape[1] <= _FEW_CHANNELS and x.is_floating_point()


def _pick_channels(x: Tensor, index: Tensor) -> Tensor:
    """The same by a 1x1 convolution with zeros and ones.

    Where the channels are innermost, as in training, it takes half the time of index_select, whose
    gradient is slow, and it leaves them there.
    """
    ones = functional.one_hot(index, x.shape[1]).to(x)
    return functional.conv2d(x, ones[:, :, None, None])


def gather(node: Node) -> Converted:
    """Gather, which picks whole slices."""
    return apply(node, _gather, axis=node.get("axis", 0))


def _gather_elements(x: Tensor, indices: Tensor, *, axis: int) -> Tensor:
    return x.gather(axis, _positive(indices, x.shape[axis]))


def gather_elements(node: Node) -> Converted:
    """GatherElements."""
    return apply(node, _gather_elements, axis=node.get("axis", 0))


def _gather_nd(x: Tensor, indices: Tensor, *, batch_dims: int) -> Tensor:
    depth = indices.shape[-1]
    shape = [*indices.shape[:-1], *x.shape[batch_dims + depth :]]
    batches = x.shape[:batch_dims].numel()
    flat = x.reshape(batches, *x.shape[batch_dims:])
    index = indices.reshape(batches, -1, depth).long()
    picks = [_positive(index[..., i], flat.shape[1 + i]) for i in range(depth)]
    batch = torch.arange(batches, device=x.device)[:, None].expand(index.shape[:2])
    return flat[(batch, *picks)].reshape(shape)


def gather_nd(node: Node) -> Converted:
    """GatherND."""
    return apply(node, _gather_nd, batch_dims=node.get("batch_dims", 0))


_REDUCE: Mapping[str, str] = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def _scatter_elements(
    x: Tensor, indices: Tensor, updates: Tensor, *, axis: int, reduction: str
) -> Tensor:
    index = _positive(indices, x.shape[axis])
    if reduction == "none":
        return x.scatter(axis, index, updates)
    return x.scatter_reduce(axis, index, updates, _REDUCE[reduction])


def scatter_elements(node: Node) -> Converted:
    """ScatterElements, and Scatter, its older name."""
    return apply(node, _scatter_elements, axis=node.get("axis", 0), reduction=_reduction(node))


def _scatter_nd(x: Tensor, indices: Tensor, updates: Tensor, *, reduction: str) -> Tensor:
    depth = indices.shape[-1]
    strides = list(accumulate(reversed(x.shape[1:depth]), int.__mul__, initial=1))[::-1]
    rows = torch.zeros(indices.shape[:-1], dtype=torch.int64, device=x.device)
    for i, stride in enumerate(strides[:depth]):
        rows = rows + _positive(indices[..., i], x.shape[i]) * stride
    inner = x.shape[depth:].numel()
    flat = x.reshape(-1, inner)
    index = rows.reshape(-1, 1).expand(-1, inner)
    source = updates.reshape(-1, inner)
    if reduction == "none":
        return flat.scatter(0, index, source).reshape(x.shape)
    return flat.scatter_reduce(0, index, source, _REDUCE[reduction]).reshape(x.shape)


def scatter_nd(node: Node) -> Converted:
    """ScatterND."""
    return apply(node, _scatter_nd, reduction=_reduction(node))


def _reduction(node: Node) -> str:
    reduction = str(node.get("reduction", "none"))
    if reduction != "none" and reduction not in _REDUCE:
        raise CannotConvertError(f"reduction '{reduction}' is not known")
    return reduction


def _triangle(x: Tensor, k: Ints | None = None, *, upper: bool) -> Tensor:
    diagonal = 0 if k is None else ints(k)[0]
    return x.triu(diagonal) if upper else x.tril(diagonal)


def triangle(node: Node) -> Converted:
    """Trilu."""
    return apply(node, _triangle, read=(1,), upper=bool(node.get("upper", 1)))


def _non_zero(x: Tensor) -> Tensor:
    return torch.nonzero(x).T


def non_zero(node: Node) -> Converted:
    """NonZero."""
    return apply(node, _non_zero)


def _compress(x: Tensor, condition: Tensor, *, axis: int | None) -> Tensor:
    picked = torch.nonzero(condition).flatten()
    return x.flatten().index_select(0, picked) if axis is None else x.index_select(axis, picked)


def compress(node: Node) -> Converted:
    """Compress, which picks slices by a condition."""
    return apply(node, _compress, axis=node.get("axis"))


def _reverse_sequence(x: Tensor, lengths: Tensor, *, time_axis: int) -> Tensor:
    batch_axis = 1 - time_axis
    steps = torch.arange(x.shape[time_axis], device=x.device).unsqueeze(batch_axis)
    counts = lengths.long().unsqueeze(time_axis)
    index = torch.where(steps < counts, counts - 1 - steps, steps)
    return x.gather(time_axis, index.reshape(*index.shape, *[1] * (x.dim() - 2)).expand_as(x))


def reverse_sequence(node: Node) -> Converted:
    """ReverseSequence, which reverses each sample within its length."""
    return apply(node, _reverse_sequence, time_axis=node.get("time_axis", 0))
