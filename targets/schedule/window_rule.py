"""The schedule of `window`: channel by channel, a register tile of rows by columns."""

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from crespr_onnx.targets.schedule import annotations as mark
from crespr_onnx.targets.schedule.injective import inline_plain, vectorize_innermost
from crespr_onnx.targets.schedule.machine import Machine
from crespr_onnx.targets.schedule.padding import fill_padding


def schedule_window(sch: Schedule, kernel: SBlockRV, machine: Machine) -> None:
    """Schedule a function around a block made by `compute_window`."""
    blocks = mark.blocks_of(sch)
    stages = [b for b in blocks if mark.annotation(sch, b, mark.STAGE) is not None]
    last = blocks[-1]
    lanes, vectors, rows, work = (
        int(mark.annotation(sch, kernel, key) or 0)
        for key in (mark.LANES, mark.VECTORS, mark.ROWS, mark.WORK)
    )
    inline_plain(sch, last)
    n, c, h, v, kh, kw = sch.get_loops(kernel)
    h_tile, h_row = sch.split(h, [None, rows])
    v_tile, v_vector, v_lane = sch.split(v, [None, vectors, lanes])
    sch.reorder(n, c, h_tile, v_tile, kh, kw, h_row, v_vector, v_lane)
    channel = sch.fuse(n, c)
    if machine.threads > 1 and work > 500_000:
        sch.parallel(channel)
    for place in reversed(stages):
        sch.compute_at(place, channel, preserve_unit_loops=True)
    sch.reverse_compute_at(last, h_tile, preserve_unit_loops=True)
    store = sch.cache_write(kernel, 0, "local")
    sch.reverse_compute_at(store, v_tile, preserve_unit_loops=True)
    *_, stored_row, column = sch.get_loops(store)
    vector, lane = sch.split(column, [None, lanes])
    for loop in (stored_row, vector, kh, kw, h_row, v_vector):
        sch.unroll(loop)
    sch.vectorize(lane)
    sch.vectorize(v_lane)
    sch.decompose_reduction(kernel, kh)
    vectorize_innermost(sch, last, lanes)
    for place in stages:
        fill_padding(sch, place, sch.get_loops(place)[-3])
