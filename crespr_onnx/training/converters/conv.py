"""Conv and ConvTranspose in one to three dimensions."""

from torch import Tensor
from torch.nn import functional

from crespr_onnx.training.converters.node import CannotConvertError, Converted, Node, apply
from crespr_onnx.training.converters.pad import pad_constant
from crespr_onnx.training.converters.stock import stock
from crespr_onnx.training.converters.windows import Windows, windows_of

_CONV = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_CONV_TRANSPOSE = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}


def _conv(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, windows: Windows, groups: int
) -> Tensor:
    x = pad_constant(x, [(0, 0), (0, 0), *windows.padding(tuple(x.shape[2:]))], 0.0)
    return _CONV[len(windows.kernel)](
        x, weight, bias, windows.strides, 0, windows.dilations, groups
    )


def conv(node: Node) -> Converted:
    """Conv: a PyTorch layer where there is one, else a function with explicit padding."""
    windows = windows_of(node, _kernel(node))
    weights = [i for i in (1, 2) if node.has(i)]
    if windows.is_symmetric and all(node.is_initializer(i) for i in weights):
        return stock("Conv", 11)(node)
    return apply(node, _conv, windows=windows, groups=node.get("group", 1))


def _conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    windows: Windows,
    groups: int,
    output_padding: tuple[int, ...],
    output_shape: tuple[int, ...] | None,
) -> Tensor:
    rank = len(windows.kernel)
    whole = _CONV_TRANSPOSE[rank](x, weight, None, windows.strides, 0, 0, groups, windows.dilations)
    if windows.auto_pad.startswith("SAME"):
        sizes = zip(x.shape[2:], windows.strides, strict=True)
        wanted = output_shape or tuple(size * stride for size, stride in sizes)
    else:
        wanted = output_shape or ()
    cuts = []
    for axis in range(rank):
        if wanted:
            # What is missing is added at the end, as in ONNX Runtime.
            total = max(whole.shape[2 + axis] + output_padding[axis] - wanted[axis], 0)
            upper = windows.auto_pad == "SAME_UPPER"
            before = total // 2 if upper else total - total // 2
            cuts.append((-before, wanted[axis] + before - whole.shape[2 + axis]))
        else:
            before, after = windows.padding_given[axis]
            cuts.append((-before, output_padding[axis] - after))
    result = pad_constant(whole, [(0, 0), (0, 0), *cuts], 0.0)
    return result if bias is None else result + bias.reshape(-1, *[1] * rank)


def conv_transpose(node: Node) -> Converted:
    """ConvTranspose; padding, however it is given, cuts the full result."""
    windows = windows_of(node, _kernel(node))
    rank = len(windows.kernel)
    weights = [i for i in (1, 2) if node.has(i)]
    is_plain = windows.is_symmetric and "output_shape" not in node.attributes
    if is_plain and all(node.is_initializer(i) for i in weights):
        return stock("ConvTranspose", 11)(node)
    wanted = node.get("output_shape")
    return apply(
        node,
        _conv_transpose,
        windows=windows,
        groups=node.get("group", 1),
        output_padding=tuple(node.get("output_padding", [0] * rank)),
        # Some exporters give batch and channels as well.
        output_shape=None if wanted is None else tuple(wanted[-rank:]),
    )


def _kernel(node: Node) -> tuple[int, ...]:
    given = node.get("kernel_shape")
    if given is not None:
        return tuple(given)
    shape = node.shape(1)
    if shape is None or None in shape[2:]:
        raise CannotConvertError("the shape of its kernel is not known")
    return tuple(size for size in shape[2:] if size is not None)
