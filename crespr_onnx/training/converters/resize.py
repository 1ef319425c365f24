"""Resize and Upsample, axis by axis.

Every mode is a weighted sum of a few elements along one axis: their positions and weights follow
from the operator's definition (onnx/docs/Operators.md, Resize, and its reference implementation).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

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

_TRANSFORMS = (
    "align_corners",
    "asymmetric",
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "tf_half_pixel_for_nn",
)
_MODES = ("nearest", "linear", "cubic")


@dataclass(frozen=True)
class _Rule:
    """How positions of the output become weighted positions of the input.

    Attributes:
        mode: nearest, linear or cubic.
        transform: coordinate_transformation_mode.
        nearest: nearest_mode; "simple" is what it was before version 11.
        cubic_a: coefficient of the cubic kernel.
        exclude_outside: whether taps outside of the input get no weight.
        policy: keep_aspect_ratio_policy.
    """

    mode: str
    transform: str
    nearest: str
    cubic_a: float
    exclude_outside: bool
    policy: str = "stretch"

    def coordinates(self, size: int, target: int, scale: float) -> Tensor:
        """Where each position of the output lies in the input, as float64."""
        x = torch.arange(target, dtype=torch.float64)
        if self.transform == "asymmetric":
            return x / scale
        if self.transform == "align_corners":
            return x * ((size - 1) / (target - 1)) if target > 1 else torch.zeros_like(x)
        if self.transform == "tf_half_pixel_for_nn":
            return (x + 0.5) / scale
        if self.transform == "pytorch_half_pixel" and target <= 1:
            return torch.zeros_like(x)
        shift = 0.0
        if self.transform == "half_pixel_symmetric":
            shift = size / 2 * (1 - target / (scale * size))
        return shift + (x + 0.5) / scale - 0.5

    def nearest_index(self, x: Tensor, scale: float) -> Tensor:
        """Rounds coordinates to whole positions."""
        if self.nearest == "floor" or (self.nearest == "simple" and scale >= 1):
            return x.floor()
        if self.nearest in ("ceil", "simple"):
            return x.ceil()
        if self.nearest == "round_prefer_floor":
            return (x - 0.5).ceil()
        return (x + 0.5).floor()

    def taps(self, size: int, target: int, scale: float) -> tuple[Tensor, Tensor]:
        """Positions in the input and their weights, each of shape [target, taps]."""
        x = self.coordinates(size, target, scale)
        if self.mode == "nearest":
            index = self.nearest_index(x, scale)[:, None]
            weight = torch.ones_like(index)
        elif self.mode == "linear":
            x = x if self.exclude_outside else x.clamp(0, size - 1)
            base = x.floor()
            index = base[:, None] + torch.arange(2)
            weight = torch.stack([1 - (x - base), x - base], 1)
        else:
            base = x.floor()
            index = base[:, None] + torch.arange(-1, 3)
            weight = _cubic((index - x[:, None]).abs(), self.cubic_a)
        if self.exclude_outside and self.mode != "nearest":
            weight = torch.where((index >= 0) & (index < size), weight, 0.0)
            weight = weight / weight.sum(1, keepdim=True)
        return index.clamp(0, size - 1).long(), weight


def _cubic(t: Tensor, a: float) -> Tensor:
    """The cubic convolution kernel of Keys 1981, equation 15, at distances t."""
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
    return torch.where(t <= 1, near, torch.where(t < 2, far, 0.0))


def _resize(
    x: Tensor,
    roi: Tensor | None = None,
    scales: Tensor | Sequence[float] | None = None,
    sizes: Ints | None = None,
    *,
    rule: _Rule,
    axes: Sequence[int] | None,
) -> Tensor:
    chosen = [a % x.dim() for a in axes] if axes is not None else list(range(x.dim()))
    given = scales.tolist() if isinstance(scales, Tensor) else list(scales or ())
    if sizes is None or len(wanted := ints(sizes)) == 0:
        targets = [math.floor(x.shape[a] * s) for a, s in zip(chosen, given, strict=True)]
        factors = given
    elif rule.policy == "stretch":
        targets = wanted
        factors = [t / x.shape[a] for a, t in zip(chosen, wanted, strict=True)]
    else:
        ratios = [t / x.shape[a] for a, t in zip(chosen, wanted, strict=True)]
        factor = min(ratios) if rule.policy == "not_larger" else max(ratios)
        factors = [factor] * len(chosen)
        targets = [math.floor(x.shape[a] * factor + 0.5) for a in chosen]
    if _is_plain_upsampling(x, chosen, factors, rule):
        by_axis = dict(zip(chosen, factors, strict=True))
        spatial = [by_axis.get(axis, 1.0) for axis in range(2, x.dim())]
        return functional.interpolate(x, scale_factor=spatial)
    for axis, target, scale in zip(chosen, targets, factors, strict=True):
        if target != x.shape[axis] or scale != 1:
            x = _resize_axis(x, axis, target, scale, rule)
    return x


def _is_plain_upsampling(x: Tensor, axes: list[int], factors: list[float], rule: _Rule) -> bool:
    """Whether PyTorch's nearest interpolation, the faster way, is exactly what is asked for."""
    return (
        rule.mode == "nearest"
        and rule.transform == "asymmetric"
        and rule.nearest in ("floor", "simple")
        and 3 <= x.dim() <= 5
        and all(
            f == 1 or (a >= 2 and f >= 1 and f == int(f))
            for a, f in zip(axes, factors, strict=True)
        )
    )


def _resize_axis(x: Tensor, axis: int, target: int, scale: float, rule: _Rule) -> Tensor:
    index, weight = rule.taps(x.shape[axis], target, scale)
    index, weight = index.to(x.device), weight.to(x.device)
    if rule.mode == "nearest":
        return x.index_select(axis, index[:, 0])
    after = [1] * (x.dim() - 1 - axis)
    total: Tensor | None = None
    for tap in range(index.shape[1]):
        part = x.index_select(axis, index[:, tap])
        part = part * weight[:, tap].to(x.dtype).reshape(-1, *after)
        total = part if total is None else total + part
    assert total is not None
    return total


def resize(node: Node) -> Converted:
    """Resize, and Upsample, its older name."""
    if node.get("antialias", 0):
        raise CannotConvertError("its antialias=1 has no PyTorch counterpart")
    old = node.version < 11
    transform = "asymmetric" if old else node.get("coordinate_transformation_mode", "half_pixel")
    if transform not in _TRANSFORMS:
        raise CannotConvertError(f"its coordinate transformation '{transform}' is not supported")
    mode = node.get("mode", "nearest")
    mode = {"bilinear": "linear"}.get(mode, mode)
    if mode not in _MODES:
        raise CannotConvertError(f"its mode '{mode}' is not known")
    rule = _Rule(
        mode=mode,
        transform=transform,
        nearest="simple" if old else node.get("nearest_mode", "round_prefer_floor"),
        cubic_a=node.get("cubic_coeff_a", -0.75),
        exclude_outside=bool(node.get("exclude_outside", 0)),
        policy=node.get("keep_aspect_ratio_policy", "stretch"),
    )
    if not old:
        return apply(node, _resize, read=(1, 2, 3), rule=rule, axes=node.get("axes"))
    given = node.as_input("scales", 1)
    return apply(node, _old_resize, read=(1,), given=given, rule=rule)


def _old_resize(x: Tensor, scales: Tensor | Sequence[float], *, rule: _Rule) -> Tensor:
    return _resize(x, None, scales, rule=rule, axes=None)
