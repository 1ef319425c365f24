"""Normalisation layers."""

import torch
from torch import Tensor
from torch.nn import functional

from crespr_onnx.training.converters.node import CannotConvertError, Converted, Node, apply
from crespr_onnx.training.converters.stock import stock

_FLOAT = 1


def _stash(node: Node) -> bool:
    """Whether statistics are computed in float32 rather than in the input's type."""
    return bool(node.get("stash_type", _FLOAT) == _FLOAT)


def _layer_norm(
    x: Tensor, scale: Tensor, bias: Tensor | None = None, *, axis: int, epsilon: float
) -> Tensor:
    shape = x.shape[axis:]
    if scale.shape == shape and (bias is None or bias.shape == shape):
        return functional.layer_norm(x, shape, scale, bias, epsilon)
    normalised = functional.layer_norm(x, shape, eps=epsilon) * scale
    return normalised if bias is None else normalised + bias


def layer_norm(node: Node) -> Converted:
    """LayerNormalization; mean and deviation are no outputs."""
    if node.has_output(1) or node.has_output(2):
        raise CannotConvertError("its outputs besides the first, the statistics, are used")
    return apply(node, _layer_norm, axis=node.get("axis", -1), epsilon=node.get("epsilon", 1e-5))


def _rms_norm(x: Tensor, scale: Tensor, *, axis: int, epsilon: float, stash: bool) -> Tensor:
    wide = x.float() if stash and x.dtype in (torch.float16, torch.bfloat16) else x
    axes = list(range(axis % x.dim(), x.dim()))
    normalised = wide * torch.rsqrt(wide.square().mean(axes, keepdim=True) + epsilon)
    return normalised.to(x.dtype) * scale


def rms_norm(node: Node) -> Converted:
    """RMSNormalization."""
    return apply(
        node,
        _rms_norm,
        axis=node.get("axis", -1),
        epsilon=node.get("epsilon", 1e-5),
        stash=_stash(node),
    )


def _group_norm(
    x: Tensor, scale: Tensor, bias: Tensor, *, groups: int, epsilon: float, per_group: bool
) -> Tensor:
    if per_group:
        times = x.shape[1] // groups
        scale, bias = scale.repeat_interleave(times), bias.repeat_interleave(times)
    return functional.group_norm(x, groups, scale, bias, epsilon)


def group_norm(node: Node) -> Converted:
    """GroupNormalization: before version 21 with a scale and a bias for each group."""
    return apply(
        node,
        _group_norm,
        groups=node.get("num_groups"),
        epsilon=node.get("epsilon", 1e-5),
        per_group=node.version < 21,
    )


def _instance_norm(x: Tensor, scale: Tensor, bias: Tensor, *, epsilon: float) -> Tensor:
    # F.instance_norm refuses a single position in training; one group per channel does not.
    return functional.group_norm(x, x.shape[1], scale, bias, epsilon)


def instance_norm(node: Node) -> Converted:
    """InstanceNormalization."""
    return apply(node, _instance_norm, epsilon=node.get("epsilon", 1e-5))


def batch_norm(node: Node) -> Converted:
    """BatchNormalization of every version in its inference form, as a PyTorch layer.

    Raises:
        CannotConvertError: if it is in training mode or not per channel.
    """
    if node.get("training_mode", 0) or any(node.has_output(i) for i in range(1, 5)):
        raise CannotConvertError("it is in training mode")
    if not node.get("spatial", 1):
        raise CannotConvertError("its spatial=0 has no PyTorch counterpart")
    shape = node.shape(0)
    # PyTorch has a layer for each rank; where that is not known, the statistics stay as they are.
    has_layer = shape is not None and 2 <= len(shape) <= 5
    if has_layer and all(node.is_initializer(i) for i in range(1, 5)):
        return stock("BatchNormalization", 15)(node)
    return apply(node, _batch_norm, epsilon=node.get("epsilon", 1e-5))


def _batch_norm(
    x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, *, epsilon: float
) -> Tensor:
    return functional.batch_norm(x, mean.detach(), variance.detach(), scale, bias, eps=epsilon)


def _lp_normalise(x: Tensor, *, axis: int, p: int) -> Tensor:
    norm = torch.linalg.vector_norm(x, p, axis, keepdim=True)
    return x / torch.where(norm == 0, 1.0, norm)


def lp_normalise(node: Node) -> Converted:
    """LpNormalization."""
    return apply(node, _lp_normalise, axis=node.get("axis", -1), p=node.get("p", 2))


def _standardise(x: Tensor, *, axes: list[int]) -> Tensor:
    centred = x - x.mean(axes, keepdim=True)
    return centred / (centred.square().mean(axes, keepdim=True).sqrt() + 1e-9)


def standardise(node: Node) -> Converted:
    """MeanVarianceNormalization."""
    return apply(node, _standardise, axes=node.get("axes", [0, 2, 3]))
