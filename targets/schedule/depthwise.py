"""Convolution of each channel by itself."""

import numpy as np
from tvm import relax, te

from crespr_onnx.targets.schedule.axis import Axis
from crespr_onnx.targets.schedule.call_kernel import call_kernel
from crespr_onnx.targets.schedule.machine import Machine
from crespr_onnx.targets.schedule.window import choose_window_tile, compute_window


def emit_depthwise(
    machine: Machine,
    builder: relax.BlockBuilder,
    data: relax.Expr,
    weight: np.ndarray,
    rows: Axis,
    columns: Axis,
) -> relax.Expr:
    """A call of the kernel; weight [C, 1, kh, kw]."""
    tile = choose_window_tile(machine, rows, columns)

    def depthwise(x: te.Tensor, w: te.Tensor) -> te.Tensor:
        def weigh(c, kh, kw, value):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            return w[c, kh, kw] * value

        return compute_window(x, rows, columns, tile, te.sum, weigh, 0.0, "depthwise")

    return call_kernel(builder, depthwise, data, relax.const(weight[:, 0]), None)
