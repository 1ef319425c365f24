"""Pooling over windows of images."""

from typing import Any

from tvm import relax, te, tirx

from crespr_onnx.targets.schedule import annotations as mark
from crespr_onnx.targets.schedule.axis import Axis
from crespr_onnx.targets.schedule.index import static_shape
from crespr_onnx.targets.schedule.machine import Machine
from crespr_onnx.targets.schedule.window import choose_window_tile, compute_window

MOST_TAPS = 25
"""Larger windows are unrolled too far."""


def legalize_pool2d(
    machine: Machine, builder: relax.BlockBuilder, call: relax.Call
) -> relax.Expr | None:
    """Replace float32 pooling by our kernel; None if it does not apply.

    It does not where windows of a mean reach into padding that does not count, nor where they
    do not overlap: then copying the image costs more than it saves; nor for maxima with a stride,
    which `reduction` leaves to LLVM.
    """
    attrs, (data,) = call.attrs, call.args
    shapes = static_shape(data), static_shape(call)
    if shapes[0] is None or shapes[1] is None or (attrs.layout, attrs.out_layout) != ("NCHW",) * 2:
        return None
    mean = call.op.name == "relax.nn.avg_pool2d"
    padded = any(int(p) for p in attrs.padding)
    if mean and (attrs.ceil_mode or (padded and not attrs.count_include_pad)):
        return None
    rows, columns = (
        Axis(
            size=shapes[0][2 + i],
            out=shapes[1][2 + i],
            kernel=int(attrs.pool_size[i]),
            stride=int(attrs.strides[i]),
            dilation=int(attrs.dilation[i]),
            before=int(attrs.padding[i]),
        )
        for i in (0, 1)
    )
    overlap = rows.kernel > rows.stride or columns.kernel > columns.stride
    if not mean and columns.stride > 1:
        return None
    if not (overlap or padded) or rows.kernel * columns.kernel > MOST_TAPS:
        return None
    tile = choose_window_tile(machine, rows, columns)

    def pool(x: te.Tensor) -> te.Tensor:
        def keep(c: Any, kh: Any, kw: Any, value: Any) -> Any:  # noqa: ANN401
            return value

        if not mean:
            return compute_window(x, rows, columns, tile, te.max, keep, float("-inf"), "max_pool2d")
        total = compute_window(x, rows, columns, tile, te.sum, keep, 0.0, "total")
        part = tirx.const(1 / (rows.kernel * columns.kernel), x.dtype)
        return te.compute(total.shape, lambda *i: total(*i) * part, name="avg_pool2d")

    attributes = {"op_pattern": mark.OUT_ELEMENTWISE_FUSABLE}
    name = call.op.name.split(".")[-1]
    return builder.call_te(pool, data, primfunc_name_hint=name, primfunc_attrs=attributes)
