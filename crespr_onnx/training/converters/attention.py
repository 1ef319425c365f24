"""Attention of opset 23 without a cache."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from crespr_onnx.training.converters.node import CannotConvertError, Converted, Node, apply


def _heads(x: Tensor, count: int | None) -> Tensor:
    """[N, T, heads * size] as [N, heads, T, size]."""
    if x.dim() == 4:
        return x
    assert count is not None
    return x.reshape(*x.shape[:2], count, -1).transpose(1, 2)


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    *,
    q_heads: int | None,
    kv_heads: int | None,
    scale: float | None,
    softcap: float,
    causal: bool,
) -> Tensor:
    q, k, v = _heads(query, q_heads), _heads(key, kv_heads), _heads(value, kv_heads)
    if q.shape[1] != k.shape[1]:
        times = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(times, 1), v.repeat_interleave(times, 1)
    root = math.sqrt(1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    scores = (q * root) @ (k * root).transpose(-1, -2)
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    if mask is not None:
        # A mask that is shorter than the keys hides those at the end.
        missing = scores.shape[-1] - mask.shape[-1]
        if mask.dtype == torch.bool:
            mask = functional.pad(mask, (0, missing), value=False)
            scores = scores.masked_fill(~mask, -math.inf)
        else:
            scores = scores + functional.pad(mask, (0, missing), value=-math.inf)
    if causal:
        allowed = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        scores = scores.masked_fill(~allowed, -math.inf)
    hidden = (scores == -math.inf).all(-1, keepdim=True)
    # A row that sees nothing gives zeros, and must not turn gradients into NaN.
    weights = scores.masked_fill(hidden, 0.0).softmax(-1).masked_fill(hidden, 0.0)
    result = weights @ v
    return result if query.dim() == 4 else result.transpose(1, 2).flatten(2)


def attention(node: Node) -> Converted:
    """Attention with masks, grouped heads and softcap.

    Raises:
        CannotConvertError: if it reads or writes a cache, or gives out its scores.
    """
    if any(node.has(i) for i in (4, 5, 6)) or any(node.has_output(i) for i in (1, 2, 3)):
        raise CannotConvertError("its cache or its output of scores has no PyTorch counterpart")
    if any(node.get(f, -1) != -1 for f in ("left_window_size", "right_window_size")):
        raise CannotConvertError("its sliding window has no PyTorch counterpart")
    return apply(
        node,
        _attention,
        q_heads=node.get("q_num_heads"),
        kv_heads=node.get("kv_num_heads"),
        scale=node.get("scale"),
        softcap=node.get("softcap", 0.0),
        causal=bool(node.get("is_causal", 0)),
    )
