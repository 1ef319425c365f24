"""Copies that read along another axis than they write: small tiles, so that both are near by."""

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from crespr_onnx.targets.schedule import annotations as mark

SIDE = 8
"""Of a tile: measured best of 4, 8 and 16 on a transpose of 192 x 784 (AVX-512)."""
LEAST_SIDE = 4


def tile_transpose(sch: Schedule, block: SBlockRV) -> bool:
    """Tile a block that transposes; False if it does not, or if no tile fits.

    Vectors are loaded whole and stored number by number: that is faster than the reverse.
    """
    read = _read_axis(sch, block)
    if read is None:
        return False
    side = mark.widest(sch, read, SIDE)
    if side < LEAST_SIDE:
        return False
    written = sch.get_loops(block)[-1]
    outer, lane = sch.split(read, [None, side])
    tile, row = sch.split(written, [None, mark.widest(sch, written, SIDE)])
    sch.reorder(outer, tile, row, lane)
    sch.vectorize(lane)
    return True


def _read_axis(sch: Schedule, block: SBlockRV) -> LoopRV | None:
    """The loop along which a block reads consecutive numbers, if it writes them far apart."""
    found = sch.get(block)
    axes, loops = [axis.var for axis in found.iter_vars], sch.get_loops(block)
    if len(axes) < 2 or len(axes) != len(loops):
        return None
    for read in found.reads:
        if not read.region:
            continue
        *front, last = (part.min for part in read.region)
        if not any(index.same_as(axes[-1]) for index in front):
            continue
        for axis, loop in zip(axes[:-1], loops[:-1], strict=True):
            if last.same_as(axis):
                return loop
    return None
