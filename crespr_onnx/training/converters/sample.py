"""Sampling at computed positions."""

from torch import Tensor
from torch.nn import functional

from crespr_onnx.training.converters.node import CannotConvertError, Converted, Node, apply

_MODES = {"bilinear": "bilinear", "linear": "bilinear", "nearest": "nearest"}


def _grid_sample(x: Tensor, grid: Tensor, *, mode: str, padding: str, corners: bool) -> Tensor:
    return functional.grid_sample(x, grid, mode, padding, corners)


def grid_sample(node: Node) -> Converted:
    """GridSample by the nearest or by linear interpolation."""
    mode = node.get("mode", "linear")
    if mode not in _MODES:
        raise CannotConvertError(f"its mode '{mode}' is not supported")
    return apply(
        node,
        _grid_sample,
        mode=_MODES[mode],
        padding=node.get("padding_mode", "zeros"),
        corners=bool(node.get("align_corners", 0)),
    )
