"""The schedule of `matmul`: a register tile of rows by columns."""

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from crespr_onnx.targets.schedule import annotations as mark
from crespr_onnx.targets.schedule.injective import schedule_injective
from crespr_onnx.targets.schedule.machine import Machine


def schedule_matmul(sch: Schedule, kernel: SBlockRV, machine: Machine) -> None:
    """Schedule a function around a block made by `compute_matmul`."""
    blocks = mark.blocks_of(sch)
    lanes, vectors, rows, work = (
        int(mark.annotation(sch, kernel, key) or 0)
        for key in (mark.LANES, mark.VECTORS, mark.ROWS, mark.WORK)
    )
    schedule_injective(sch, blocks[-1])
    b, m, n, k = sch.get_loops(kernel)
    m_tile, m_row = sch.split(m, [None, rows])
    n_tile, n_vector, n_lane = sch.split(n, [None, vectors, lanes])
    sch.reorder(b, n_tile, m_tile, k, m_row, n_vector, n_lane)
    outer = sch.fuse(b, n_tile)
    if machine.threads > 1 and work > 500_000:
        sch.parallel(outer)
    store = sch.cache_write(kernel, 0, "local")
    sch.reverse_compute_at(store, m_tile)
    # Below the two outer loops; a loop over a single row is left out.
    *stored_rows, column = sch.get_loops(store)[2:]
    vector, lane = sch.split(column, [None, lanes])
    # A few steps of the reduction at a time save the loop's overhead.
    steps = next(d for d in (4, 3, 2, 1) if mark.extent(sch, k) % d == 0)
    k_outer, k_inner = sch.split(k, [None, steps])
    for loop in (*stored_rows, vector, k_inner, m_row, n_vector):
        sch.unroll(loop)
    sch.vectorize(lane)
    sch.vectorize(n_lane)
    sch.decompose_reduction(kernel, k_outer)
