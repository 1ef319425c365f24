"""Transposed convolution, as a convolution whose channels hold the pixels between its inputs.

With stride s, the results at positions r modulo s are a convolution of the input with the taps at r
modulo s. All s x s of these together are one convolution with s x s times the channels, and its
results are read in the order in which they lie in the image (Shi et al. 2016, arXiv 1609.07009).
"""

from dataclasses import dataclass
from math import ceil

import numpy as np
import tvm
from tvm import relax, te

from crespr_onnx.targets.schedule.axis import Axis
from crespr_onnx.targets.schedule.call_kernel import call_kernel
from crespr_onnx.targets.schedule.conv2d import compute_conv2d, pack_weight
from crespr_onnx.targets.schedule.index import static_shape
from crespr_onnx.targets.schedule.machine import Machine
from crespr_onnx.targets.schedule.products import Convolution, tile_of


@dataclass(frozen=True)
class Way:
    """One spatial axis of a transposed convolution.

    The result at y gets the input at i through tap y + before - i * stride.

    Attributes:
        size: input extent.
        out: output extent.
        kernel: taps.
        stride: step between what neighbouring inputs give to.
        before: results cut off in front.
    """

    size: int
    out: int
    kernel: int
    stride: int
    before: int

    @property
    def first(self) -> int:
        """The step that the first result belongs to."""
        return self.before // self.stride

    @property
    def taps(self) -> int:
        """Taps of one residue modulo the stride."""
        return ceil(self.kernel / self.stride)

    @property
    def axis(self) -> Axis:
        """The convolution that yields `stride` results at each step."""
        steps = (self.out - 1 + self.before) // self.stride - self.first + 1
        return Axis(self.size, steps, self.taps, 1, 1, self.taps - 1 - self.first)


def legalize_conv2d_transpose(
    machine: Machine, builder: relax.BlockBuilder, call: relax.Call
) -> relax.Expr | None:
    """Replace a conv2d_transpose with constant float32 weights; None if it does not apply.

    It does not with dilation, nor where more is cut off than the taps reach.
    """
    attrs, (data, kernel) = call.attrs, call.args
    layouts = (attrs.data_layout, attrs.kernel_layout, attrs.out_layout)
    shapes = static_shape(data), static_shape(call)
    if not isinstance(kernel, tvm.ir.GenericConst) or layouts != ("NCHW", "IOHW", "NCHW"):
        return None
    weight = kernel.value.numpy()
    if shapes[0] is None or shapes[1] is None or weight.dtype != np.float32:
        return None
    rows, columns = (
        Way(
            size=shapes[0][2 + i],
            out=shapes[1][2 + i],
            kernel=weight.shape[2 + i],
            stride=int(attrs.strides[i]),
            before=int(attrs.padding[i]),
        )
        for i in (0, 1)
    )
    dilated = any(int(d) != 1 for d in attrs.dilation)
    if dilated or rows.axis.before < 0 or columns.axis.before < 0:
        return None
    groups = int(attrs.groups)
    parts = part_weight(weight, groups, rows, columns)
    product = Convolution(tuple(shapes[0]), parts.shape, groups, rows.axis, columns.axis, None)
    tile = tile_of(machine, product)
    packed = relax.const(pack_weight(parts, groups, tile.rows))

    def conv2d_transpose(x: te.Tensor, w: te.Tensor) -> te.Tensor:
        all_parts = compute_conv2d(x, w, product, tile)
        return compute_shuffle(all_parts, rows, columns)

    return call_kernel(builder, conv2d_transpose, data, packed, None)


def part_weight(weight: np.ndarray, groups: int, rows: Way, columns: Way) -> np.ndarray:
    """[I, O/g, kh, kw] -> [O s s, I/g, taps, taps], in reverse along both axes."""
    inputs, per_group_out = weight.shape[:2]
    steps = rows.stride, columns.stride
    whole = np.zeros(
        (inputs, per_group_out, rows.taps * steps[0], columns.taps * steps[1]), weight.dtype
    )
    whole[:, :, : rows.kernel, : columns.kernel] = weight
    parted = whole.reshape(
        groups, inputs // groups, per_group_out, rows.taps, steps[0], columns.taps, steps[1]
    )[:, :, :, ::-1, :, ::-1]
    ordered = parted.transpose(0, 2, 4, 6, 1, 3, 5)
    shape = (groups * per_group_out * steps[0] * steps[1], inputs // groups)
    return np.ascontiguousarray(ordered).reshape(*shape, rows.taps, columns.taps)


def compute_shuffle(x: te.Tensor, rows: Way, columns: Way) -> te.Tensor:
    """x [N, O s s, steps, steps] -> [N, O, H, W]."""
    per_output = rows.stride * columns.stride

    def read(n, o, y, z):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        y, z = y + rows.before, z + columns.before
        part = y % rows.stride * columns.stride + z % columns.stride
        step = y // rows.stride - rows.first, z // columns.stride - columns.first
        return x[n, o * per_output + part, *step]

    shape = (int(x.shape[0]), int(x.shape[1]) // per_output, rows.out, columns.out)
    return te.compute(shape, read, name="conv2d_transpose")
