"""Convolution, grouped or not: the computation, which may pick the channels that it reads."""

import numpy as np
import tvm
from tvm import relax, te, tirx

from crespr_onnx.targets.schedule import annotations as mark
from crespr_onnx.targets.schedule.call_kernel import call_kernel

STRIDE = "crespr.stride"
DILATION = "crespr.dilation"


def legalize_conv2d(
    builder: relax.BlockBuilder,
    call: relax.Call,
    source: relax.Expr | None = None,
    reads: np.ndarray | None = None,
) -> relax.Expr | None:
    """Replace a conv2d with constant float32 weights by our kernel; None if it does not apply.

    Args:
        builder: of the function that calls it.
        call: the conv2d.
        source: if given, what its data is a choice of channels of.
        reads: the channels, in order.
    """
    attrs, (data, kernel) = call.attrs, call.args
    layouts = (attrs.data_layout, attrs.kernel_layout, attrs.out_layout)
    if not isinstance(kernel, tvm.ir.GenericConst) or layouts != ("NCHW", "OIHW", "NCHW"):
        return None
    if str(data.ty.dtype) != "float32" or kernel.value.numpy().dtype != np.float32:
        return None
    shape = [int(dim) for dim in call.ty.shape]
    strides, dilation, padding = (
        tuple(int(value) for value in values)
        for values in (attrs.strides, attrs.dilation, attrs.padding)
    )

    def conv2d(x: te.Tensor, w: te.Tensor, chosen: te.Tensor | None = None) -> te.Tensor:
        return compute_conv2d(x, w, shape, int(attrs.groups), strides, dilation, padding, chosen)

    read = data if source is None else source
    return call_kernel(builder, conv2d, read, kernel, reads)


def compute_conv2d(
    x: te.Tensor,
    w: te.Tensor,
    shape: list[int],
    groups: int,
    strides: tuple[int, ...],
    dilation: tuple[int, ...],
    padding: tuple[int, ...],
    reads: te.Tensor | None = None,
) -> te.Tensor:
    """x [N, C, H, W], w [O, I / groups, kh, kw] -> [N, O, H', W'].

    With `reads`, its channels stand for the channels of x at these positions: copying the image to
    where the threads share it then is what picks them.
    """
    out_channels, per_group, kernel_h, kernel_w = (int(dim) for dim in w.shape)
    per_group_out = out_channels // groups
    batch, channels, height, width = (int(dim) for dim in x.shape)
    channels = channels if reads is None else int(reads.shape[0])
    top, left, bottom, right = padding

    def place(n, c, h, v):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        value = x[n, c if reads is None else reads[c], h - top, v - left]
        if not any(padding):
            return value
        inside = tirx.all(h >= top, h < height + top, v >= left, v < width + left)
        return tirx.if_then_else(inside, value, tirx.const(0, x.dtype))

    placed = (batch, channels, height + top + bottom, width + left + right)
    image = te.compute(placed, place, name="image", attrs={mark.STAGE: 1})
    ic = te.reduce_axis((0, per_group), name="ic")
    kh = te.reduce_axis((0, kernel_h), name="kh")
    kw = te.reduce_axis((0, kernel_w), name="kw")

    # An axis of its own for the groups, so that TVM sees which channels a group reads.
    def correlate(n, g, o, h, v):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        value = image[
            n,
            g * per_group + ic,
            h * strides[0] + kh * dilation[0],
            v * strides[1] + kw * dilation[1],
        ]
        return te.sum(value * w[g * per_group_out + o, ic, kh, kw], axis=[ic, kh, kw])

    parted = te.compute(
        (batch, groups, per_group_out, *shape[2:]),
        correlate,
        name="parted",
        attrs={
            mark.KERNEL: "conv2d",
            f"{STRIDE}.h": strides[0],
            f"{STRIDE}.w": strides[1],
            f"{DILATION}.h": dilation[0],
            f"{DILATION}.w": dilation[1],
        },
    )
    return te.compute(
        tuple(shape),
        lambda n, o, h, v: parted[n, o // per_group_out, o % per_group_out, h, v],
        name="conv2d",
    )
