"""Pooling in one to three dimensions, and over all positions."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from crespr_onnx.training.converters.node import CannotConvertError, Converted, Node, apply
from crespr_onnx.training.converters.pad import pad_constant
from crespr_onnx.training.converters.windows import Windows, windows_of

_MAX_POOL = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
_CONV = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}


_MAX_LAYER = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
_AVERAGE_LAYER = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}


def _windows(node: Node) -> Windows:
    return windows_of(node, tuple(node.get("kernel_shape")))


def _is_plain(node: Node, windows: Windows) -> bool:
    """Whether PyTorch's own layers compute it; they bound padding by half the kernel."""
    return (
        windows.is_symmetric
        and not windows.ceil_mode
        and all(2 * b <= k for (b, _), k in zip(windows.padding_given, windows.kernel, strict=True))
        and len(node.outputs) == 1
    )


def _padding(windows: Windows) -> tuple[int, ...]:
    return tuple(before for before, _ in windows.padding_given)


def _max_pool(x: Tensor, *, windows: Windows) -> Tensor:
    pads = windows.padding_to_fit(tuple(x.shape[2:]))
    lowest = -math.inf if x.is_floating_point() else torch.iinfo(x.dtype).min
    x = pad_constant(x, [(0, 0), (0, 0), *pads], lowest)
    return _MAX_POOL[len(windows.kernel)](
        x, windows.kernel, windows.strides, dilation=windows.dilations
    )


def max_pool(node: Node) -> Converted:
    """MaxPool; positions of the maxima are not computed."""
    if node.has_output(1):
        raise CannotConvertError("its second output, the positions of the maxima, is used")
    windows = _windows(node)
    if _is_plain(node, windows):
        layer = _MAX_LAYER[len(windows.kernel)](
            windows.kernel, windows.strides, _padding(windows), windows.dilations
        )
        return Converted(layer, node.inputs)
    return apply(node, _max_pool, windows=windows)


def _window_sums(x: Tensor, windows: Windows) -> Tensor:
    """Sums of the windows of an input that is padded already."""
    rank = len(windows.kernel)
    ones = torch.ones(1, 1, *windows.kernel, dtype=x.dtype, device=x.device)
    planes = x.reshape(-1, 1, *x.shape[2:])
    sums = _CONV[rank](planes, ones, None, windows.strides, 0, windows.dilations)
    return sums.reshape(*x.shape[:2], *sums.shape[2:])


def _average_pool(x: Tensor, *, windows: Windows, count_padding: bool) -> Tensor:
    sizes = tuple(x.shape[2:])
    fit = windows.padding_to_fit(sizes)
    counted = torch.ones(1, 1, *sizes, dtype=x.dtype, device=x.device)
    if count_padding:
        # What rounding up adds after the padding never counts.
        given = [
            (before, min(after, end))
            for (before, after), (_, end) in zip(windows.padding(sizes), fit, strict=True)
        ]
        counted = pad_constant(counted, [(0, 0), (0, 0), *given], 1.0)
        rest = [(0, end - after) for (_, end), (_, after) in zip(fit, given, strict=True)]
        counted = pad_constant(counted, [(0, 0), (0, 0), *rest], 0.0)
    else:
        counted = pad_constant(counted, [(0, 0), (0, 0), *fit], 0.0)
    x = pad_constant(x, [(0, 0), (0, 0), *fit], 0.0)
    return _window_sums(x, windows) / _window_sums(counted, windows)


def average_pool(node: Node) -> Converted:
    """AveragePool: a PyTorch layer where there is one."""
    windows = _windows(node)
    count_padding = bool(node.get("count_include_pad", 0))
    if _is_plain(node, windows) and set(windows.dilations) == {1}:
        layer = _AVERAGE_LAYER[len(windows.kernel)](
            windows.kernel, windows.strides, _padding(windows), count_include_pad=count_padding
        )
        return Converted(layer, node.inputs)
    return apply(node, _average_pool, windows=windows, count_padding=count_padding)


def _root(sums: Tensor, p: int) -> Tensor:
    # The gradient of the root is infinite at zero, where that of a norm is taken as zero.
    positive = sums > 0
    root = torch.where(positive, sums, 1.0).pow(1.0 / p)
    return torch.where(positive, root, 0.0)


def _lp_pool(x: Tensor, *, windows: Windows, p: int) -> Tensor:
    pads = windows.padding_to_fit(tuple(x.shape[2:]))
    powers = pad_constant(x.abs().pow(p), [(0, 0), (0, 0), *pads], 0.0)
    return _root(_window_sums(powers, windows), p)


def lp_pool(node: Node) -> Converted:
    """LpPool."""
    return apply(node, _lp_pool, windows=_windows(node), p=node.get("p", 2))


def _spatial(x: Tensor) -> list[int]:
    return list(range(2, x.dim()))


def _global_average_pool(x: Tensor) -> Tensor:
    return x.mean(_spatial(x), keepdim=True) if x.dim() > 2 else x


def global_average_pool(node: Node) -> Converted:
    """GlobalAveragePool."""
    return apply(node, _global_average_pool)


def _global_max_pool(x: Tensor) -> Tensor:
    return x.amax(_spatial(x), keepdim=True) if x.dim() > 2 else x


def global_max_pool(node: Node) -> Converted:
    """GlobalMaxPool."""
    return apply(node, _global_max_pool)


def _global_lp_pool(x: Tensor, *, p: int) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(x, p, _spatial(x), keepdim=True)
    return norm


def global_lp_pool(node: Node) -> Converted:
    """GlobalLpPool."""
    return apply(node, _global_lp_pool, p=node.get("p", 2))
