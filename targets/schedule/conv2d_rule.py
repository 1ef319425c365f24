"""The schedule of `conv2d`: a register tile of channels by positions, taps unrolled."""

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from crespr_onnx.targets.schedule import annotations as mark
from crespr_onnx.targets.schedule.injective import schedule_injective
from crespr_onnx.targets.schedule.machine import Machine
from crespr_onnx.targets.schedule.padding import fill_padding
from crespr_onnx.targets.schedule.tiles import Tile

# Straight-line code beyond this many multiply-adds outgrows the instruction cache.
UNROLL_LIMIT = 900
# With NEON, LLVM keeps what it loads for more than this waiting on the stack.
NEON_UNROLL_LIMIT = 400


def schedule_conv2d(sch: Schedule, kernel: SBlockRV, machine: Machine) -> None:
    """Schedule a function around a block made by `compute_conv2d`."""
    blocks = mark.blocks_of(sch)
    stages = [b for b in blocks if mark.annotation(sch, b, mark.STAGE) is not None]
    lanes, vectors, rows, work = (
        int(mark.annotation(sch, kernel, key) or 0)
        for key in (mark.LANES, mark.VECTORS, mark.ROWS, mark.WORK)
    )
    schedule_injective(sch, blocks[-1])
    _tile(sch, kernel, Tile(lanes, vectors, rows), machine, work > 500_000)
    for place in stages:
        fill_padding(sch, place, sch.get_loops(place)[-2])


def _tile(sch: Schedule, kernel: SBlockRV, tile: Tile, machine: Machine, much: bool) -> None:
    n, g, o, i, ic, kh, kw = sch.get_loops(kernel)
    taps = mark.extent(sch, kh) * mark.extent(sch, kw)
    o_tile, o_row = sch.split(o, [None, tile.rows])
    i_tile, i_vector, i_lane = sch.split(i, [None, tile.vectors, tile.lanes])
    sch.reorder(n, g, o_tile, i_tile, ic, kh, kw, o_row, i_vector, i_lane)
    outer = sch.fuse(n, g, o_tile)
    if machine.threads > 1 and much:
        sch.parallel(outer)
    store = sch.cache_write(kernel, 0, "local")
    sch.reverse_compute_at(store, i_tile)
    # Below the two outer loops; a loop over a single row is left out.
    *stored_rows, column = sch.get_loops(store)[2:]
    vector, lane = sch.split(column, [None, tile.lanes])
    for loop in (*stored_rows, vector, o_row, i_vector):
        sch.unroll(loop)
    if taps * tile.rows * tile.vectors <= (NEON_UNROLL_LIMIT if machine.neon else UNROLL_LIMIT):
        sch.unroll(kh)
    sch.unroll(kw)
    sch.vectorize(lane)
    sch.vectorize(i_lane)
    if taps == 1 and machine.neon:
        # Without taps to unroll, a few channels at a time save the loop's overhead.
        ic, some = sch.split(ic, [None, mark.widest(sch, ic, 4)])
        sch.unroll(some)
    sch.decompose_reduction(kernel, ic)
