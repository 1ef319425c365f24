"""What slides a window over each channel by itself: depthwise convolution and pooling.

A channel's image is copied with its padding, parted by column into as many phases as the stride, so
that neighbouring results read neighbouring values. A tile of some rows of results stays in
registers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Any

from tvm import te, tirx

from crespr_onnx.targets.schedule import annotations as mark
from crespr_onnx.targets.schedule.axis import Axis
from crespr_onnx.targets.schedule.machine import Machine


@dataclass(frozen=True)
class WindowTile:
    """Results that stay in registers.

    Attributes:
        lanes: width of a vector.
        vectors: side by side along a row.
        rows: rows of results.
    """

    lanes: int
    vectors: int
    rows: int


def choose_window_tile(machine: Machine, rows: Axis, columns: Axis) -> WindowTile:
    """The tile with the fewest operations, those for padding included."""
    lanes = min(machine.widths, key=lambda width: ceil(columns.out / width) * max(width, 8))
    across = ceil(columns.out / lanes)
    limit = machine.registers * 3 // 8
    vectors = max(d for d in range(1, min(across, 4) + 1) if across % d == 0)

    def operations(count: int) -> int:
        loads = ((count - 1) * rows.stride + rows.kernel) * columns.kernel
        return ceil(rows.out / count) * (count * rows.kernel * columns.kernel + loads)

    most = max(1, min(rows.out, limit // vectors, 8))
    return WindowTile(lanes, vectors, min(range(1, most + 1), key=operations))


def compute_window(
    x: te.Tensor,
    rows: Axis,
    columns: Axis,
    tile: WindowTile,
    reduce: Callable[..., Any],
    weigh: Callable[..., Any],
    neutral: float,
    name: str,
) -> te.Tensor:
    """x [N, C, H, W] -> [N, C, H', W'].

    Args:
        x: the images.
        rows: the window's way down.
        columns: the window's way across.
        tile: as `choose_window_tile` returns it.
        reduce: over the window's two axes, as `te.sum`.
        weigh: of channel, row and column in the window, and the value there: a term.
        neutral: what the padding holds.
        name: of the result.
    """
    batch, channels = int(x.shape[0]), int(x.shape[1])
    height = ceil(rows.out / tile.rows) * tile.rows
    across = tile.lanes * tile.vectors
    width = ceil(columns.out / across) * across
    image_rows = (height - 1) * rows.stride + (rows.kernel - 1) * rows.dilation + 1
    image = _place(x, rows, columns, image_rows, width + columns.reach, neutral)
    kh = te.reduce_axis((0, rows.kernel), name="kh")
    kw = te.reduce_axis((0, columns.kernel), name="kw")

    def slide(n, c, h, v):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        row, tap = h * rows.stride + kh * rows.dilation, kw * columns.dilation
        value = image[n, c, row, tap % columns.stride, v + tap // columns.stride]
        return reduce(weigh(c, kh, kw, value), axis=[kh, kw])

    padded = te.compute(
        (batch, channels, height, width),
        slide,
        name="slide",
        attrs={
            mark.KERNEL: "window",
            mark.LANES: tile.lanes,
            mark.VECTORS: tile.vectors,
            mark.ROWS: tile.rows,
            mark.WORK: batch * channels * height * width * rows.kernel * columns.kernel,
        },
    )
    return te.compute((batch, channels, rows.out, columns.out), lambda *i: padded(*i), name=name)


def _place(
    x: te.Tensor, rows: Axis, columns: Axis, height: int, width: int, neutral: float
) -> te.Tensor:
    """x [N, C, H, W] -> [N, C, height, column phase, width]."""
    batch, channels = int(x.shape[0]), int(x.shape[1])
    parts = columns.phases > 1

    def pad(n, c, r, q):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        h, v = r - rows.before, q - columns.before
        inside = tirx.all(h >= 0, h < rows.size, v >= 0, v < columns.size)
        return tirx.if_then_else(inside, x[n, c, h, v], tirx.const(neutral, x.dtype))

    length = width * columns.stride
    # With one phase it is read once, and is inlined.
    stage = {mark.STAGE: 1} if parts else None
    padded = te.compute((batch, channels, height, length), pad, name="padded", attrs=stage)
    return te.compute(
        (batch, channels, height, columns.phases, width),
        lambda n, c, r, a, q: padded[n, c, r, q * columns.stride + a],
        name="image",
        attrs={mark.STAGE: columns.stride},
    )
