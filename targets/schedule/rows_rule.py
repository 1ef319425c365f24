"""The schedule of kernels that reduce rows: one row at a time, from end to end."""

from math import prod

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from crespr_onnx.targets.schedule import annotations as mark
from crespr_onnx.targets.schedule.injective import inline_plain, vectorize_innermost
from crespr_onnx.targets.schedule.machine import Machine


def schedule_rows(sch: Schedule, kernel: SBlockRV, machine: Machine) -> None:
    """Schedule a function around stages made with `fold_rows`."""
    blocks = mark.blocks_of(sch)
    stages = [b for b in blocks if mark.annotation(sch, b, mark.STAGE) is not None]
    last = blocks[-1]
    inline_plain(sch, last)
    axes = int(mark.annotation(sch, kernel, mark.ROWS) or 0)
    lead, inner = sch.get_loops(last)[:axes], sch.get_loops(last)[axes:]
    work = prod(mark.extent(sch, loop) for loop in sch.get_loops(kernel))
    row = sch.fuse(*lead)
    if machine.threads > 1 and work > PARALLEL_WORK:
        sch.parallel(row)
    if inner and mark.extent(sch, inner[-1]) > 1:
        vectorize_innermost(sch, last, machine.lanes)
    for stage in reversed(stages):
        sch.compute_at(stage, row, preserve_unit_loops=True)
        sch.set_scope(stage, 0, "local")
    for stage in stages:
        _vectorize(sch, stage, machine.lanes)


PARALLEL_WORK = 100_000
"""Elements from which on several threads are worth starting."""


def _vectorize(sch: Schedule, stage: SBlockRV, lanes: int) -> None:
    if mark.annotation(sch, stage, mark.LANES) is not None:
        sch.unroll(sch.get_loops(stage)[-1])
        return
    if not mark.reduces(sch, stage):
        vectorize_innermost(sch, stage, lanes)
        return
    *_, lane, step = sch.get_loops(stage)
    sch.reorder(step, lane)
    if mark.extent(sch, lane) > 1:
        sch.vectorize(lane)
    sch.decompose_reduction(stage, step)
