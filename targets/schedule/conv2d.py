"""Convolution, grouped or not, as a one-dimensional correlation over a flattened, padded image.

The input is copied into rows of a common pitch P with the padding between them. Then the output
at (h, w) and tap (kh, kw) reads position (h P + w) + (kh P + kw): one offset per tap, so that
vectors run across row ends and narrow images still fill them. The P - W results between rows are
computed and dropped. For a stride s the input is first parted into its s x s phases, each of which
is an image with stride 1.
"""

from math import ceil

import numpy as np
import tvm
from tvm import relax, te, tirx

from crespr_onnx.targets.schedule import annotations as mark
from crespr_onnx.targets.schedule.axis import Axis
from crespr_onnx.targets.schedule.call_kernel import call_kernel
from crespr_onnx.targets.schedule.depthwise import emit_depthwise
from crespr_onnx.targets.schedule.machine import Machine
from crespr_onnx.targets.schedule.products import Convolution, tile_of, to_text
from crespr_onnx.targets.schedule.tiles import Tile


def legalize_conv2d(
    machine: Machine,
    builder: relax.BlockBuilder,
    call: relax.Call,
    source: relax.Expr | None = None,
    reads: np.ndarray | None = None,
) -> relax.Expr | None:
    """Replace a conv2d with constant float32 weights by our kernel; None if it does not apply.

    Args:
        machine: the CPU.
        builder: of the function that calls it.
        call: the conv2d.
        source: if given, what its data is a choice of channels of.
        reads: the channels, in order.
    """
    attrs, (data, kernel) = call.attrs, call.args
    layouts = (attrs.data_layout, attrs.kernel_layout, attrs.out_layout)
    if not isinstance(kernel, tvm.ir.GenericConst) or layouts != ("NCHW", "OIHW", "NCHW"):
        return None
    weight = kernel.value.numpy()
    sizes = [int(dim) for dim in data.ty.shape], [int(dim) for dim in call.ty.shape]
    if str(data.ty.dtype) != "float32" or weight.dtype != np.float32:
        return None
    rows, columns = (
        Axis(
            size=sizes[0][2 + i],
            out=sizes[1][2 + i],
            kernel=weight.shape[2 + i],
            stride=int(attrs.strides[i]),
            dilation=int(attrs.dilation[i]),
            before=int(attrs.padding[i]),
        )
        for i in (0, 1)
    )
    groups = int(attrs.groups)
    if weight.shape[:2] == (groups, 1) and source is None:
        return emit_depthwise(machine, builder, data, weight, rows, columns)
    read = data if source is None else source
    product = Convolution(
        data=tuple(int(dim) for dim in read.ty.shape),
        weight=weight.shape,
        groups=groups,
        rows=rows,
        columns=columns,
        reads=None if reads is None else len(reads),
    )
    tile = tile_of(machine, product)
    packed = relax.const(pack_weight(weight, product.groups, tile.rows))

    def conv2d(x: te.Tensor, w: te.Tensor, chosen: te.Tensor | None = None) -> te.Tensor:
        return compute_conv2d(x, w, product, tile, chosen)

    return call_kernel(builder, conv2d, read, packed, reads)


def pack_weight(weight: np.ndarray, groups: int, rows: int) -> np.ndarray:
    """[O, I/g, kh, kw] -> [g, ceil(O/g/rows), I/g, kh, kw, rows], with zeros for missing rows."""
    out, per_group, kh, kw = weight.shape
    tiles = ceil(out // groups / rows)
    packed = np.zeros((groups, tiles * rows, per_group, kh, kw), weight.dtype)
    packed[:, : out // groups] = weight.reshape(groups, out // groups, per_group, kh, kw)
    parted = packed.reshape(groups, tiles, rows, per_group, kh, kw)
    return np.ascontiguousarray(parted.transpose(0, 1, 3, 4, 5, 2))


def compute_conv2d(
    x: te.Tensor,
    w: te.Tensor,
    product: Convolution,
    tile: Tile,
    reads: te.Tensor | None = None,
) -> te.Tensor:
    """x [N, I, H, W], w as `pack_weight` makes it -> [N, O, H', W'].

    With `reads`, the channels that are convolved are those of x at these positions: picked while
    the image is copied into place, or, where that would copy some of them several times or nothing
    has to be copied, by the kernel itself.
    """
    batch = int(x.shape[0])
    groups, tiles, per_group = (int(dim) for dim in w.shape[:3])
    rows, columns, out_channels = product.rows, product.columns, product.weight[0]
    per_group_out = out_channels // groups
    pitch = columns.pitch()
    length = ceil(((rows.out - 1) * pitch + columns.out) / tile.span) * tile.span
    height = ceil((length + rows.reach * pitch + columns.reach) / pitch)

    image = x
    needs_copy = length != rows.size * columns.size or (rows.kernel, columns.kernel) != (1, 1)
    needs_copy = needs_copy or (rows.stride, columns.stride) != (1, 1)
    copied = reads
    if reads is not None and (not needs_copy or int(reads.shape[0]) > int(x.shape[1])):
        copied = None
    if needs_copy:
        image = _place(x, rows, columns, height, copied)
    ic = te.reduce_axis((0, per_group), name="ic")
    kh = te.reduce_axis((0, rows.kernel), name="kh")
    kw = te.reduce_axis((0, columns.kernel), name="kw")

    def correlate(n, g, o, i):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        tap_h, tap_w = kh * rows.dilation, kw * columns.dilation
        at = i + tap_h // rows.stride * pitch + tap_w // columns.stride
        phase = tap_h % rows.stride, tap_w % columns.stride
        index = (*(phase if image is not x else ()), at // pitch, at % pitch)
        channel = g * per_group + ic
        if reads is not None and copied is None:
            channel = reads[channel]
        value = image[n, channel, *index]
        return te.sum(w[g, o // tile.rows, ic, kh, kw, o % tile.rows] * value, axis=[ic, kh, kw])

    work = batch * out_channels * length * per_group * rows.kernel * columns.kernel
    flat = te.compute(
        (batch, groups, tiles * tile.rows, length),
        correlate,
        name="flat",
        attrs={
            mark.KERNEL: Convolution.OP,
            mark.PRODUCT: to_text(product),
            mark.LANES: tile.lanes,
            mark.VECTORS: tile.vectors,
            mark.ROWS: tile.rows,
            mark.WORK: work,
        },
    )
    return te.compute(
        (batch, out_channels, rows.out, columns.out),
        lambda n, o, h, v: flat[n, o // per_group_out, o % per_group_out, h * pitch + v],
        name="conv2d",
    )


def _place(
    x: te.Tensor, rows: Axis, columns: Axis, height: int, reads: te.Tensor | None
) -> te.Tensor:
    """x [N, I, H, W] -> [N, I, row phase, column phase, height, pitch], zero where padded."""
    batch = int(x.shape[0])
    channels = int(x.shape[1] if reads is None else reads.shape[0])
    pitch = columns.pitch()

    def pad(n, c, r, q):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        h, v = r - rows.before, q - columns.before
        inside = tirx.all(h >= 0, h < rows.size, v >= 0, v < columns.size)
        channel = c if reads is None else reads[c]
        return tirx.if_then_else(inside, x[n, channel, h, v], tirx.const(0, x.dtype))

    shape = (batch, channels, height * rows.stride, pitch * columns.stride)
    # With one phase it is read once, and is inlined.
    phases = rows.phases * columns.phases
    padded = te.compute(shape, pad, name="padded", attrs={mark.STAGE: 1} if phases > 1 else None)

    def part(n, c, a, b, r, q):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        return padded[n, c, r * rows.stride + a, q * columns.stride + b]

    parted = (batch, channels, rows.phases, columns.phases, height, pitch)
    return te.compute(parted, part, name="image", attrs={mark.STAGE: 1})
