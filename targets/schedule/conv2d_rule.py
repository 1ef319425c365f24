"""The schedule of `conv2d`: a register tile of channels by positions, taps unrolled."""

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from crespr_onnx.targets.schedule import annotations as mark
from crespr_onnx.targets.schedule.injective import schedule_injective
from crespr_onnx.targets.schedule.machine import Machine
from crespr_onnx.targets.schedule.padding import fill_padding

# Straight-line code beyond this many multiply-adds outgrows the instruction cache.
UNROLL_LIMIT = 900


def schedule_conv2d(sch: Schedule, kernel: SBlockRV, machine: Machine) -> None:
    """Schedule a function around a block made by `compute_conv2d`."""
    blocks = mark.blocks_of(sch)
    stages = [b for b in blocks if mark.annotation(sch, b, mark.STAGE) is not None]
    lanes, vectors, rows, work = (
        int(mark.annotation(sch, kernel, key) or 0)
        for key in (mark.LANES, mark.VECTORS, mark.ROWS, mark.WORK)
    )
    schedule_injective(sch, blocks[-1])
    _tile(sch, kernel, lanes, vectors, rows, machine.threads if work > 500_000 else 1)
    for place in stages:
        fill_padding(sch, place, sch.get_loops(place)[-2])


def _tile(
    sch: Schedule, kernel: SBlockRV, lanes: int, vectors: int, rows: int, threads: int
) -> None:
    n, g, o, i, ic, kh, kw = sch.get_loops(kernel)
    taps = mark.extent(sch, kh) * mark.extent(sch, kw)
    o_tile, o_row = sch.split(o, [None, rows])
    i_tile, i_vector, i_lane = sch.split(i, [None, vectors, lanes])
    sch.reorder(n, g, o_tile, i_tile, ic, kh, kw, o_row, i_vector, i_lane)
    outer = sch.fuse(n, g, o_tile)
    if threads > 1:
        sch.parallel(outer)
    store = sch.cache_write(kernel, 0, "local")
    sch.reverse_compute_at(store, i_tile)
    # Below the two outer loops; a loop over a single row is left out.
    *stored_rows, column = sch.get_loops(store)[2:]
    vector, lane = sch.split(column, [None, lanes])
    for loop in (*stored_rows, vector, o_row, i_vector):
        sch.unroll(loop)
    if taps * rows * vectors <= UNROLL_LIMIT:
        sch.unroll(kh)
    sch.unroll(kw)
    sch.vectorize(lane)
    sch.vectorize(i_lane)
    sch.decompose_reduction(kernel, ic)
