"""Schedules for element-wise work and for reductions.

Not measured on a device: the choices follow from how such devices work. Consecutive threads read
consecutive addresses; a reduction with few results is shared by the 32 threads of a warp, since
one thread per result would leave the device idle; partial sums meet in registers.
"""

from math import prod

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from crespr_onnx.targets.schedule import annotations as mark
from crespr_onnx.targets.schedule_cuda.threads import (
    THREADS,
    WARP,
    bind_flat,
    bind_warps,
    inline_others,
    loops_of,
)

SHARED_REDUCTION = 16
"""From this length on a reduction may be shared by a warp."""
FULL_DEVICE = 16 * 1024
"""With so many results each has a thread of its own: 16 SMs with 1024 threads each."""
WARPS = 4
UNROLL = 64


def schedule_elementwise(sch: Schedule) -> None:
    """One thread per element of the result; everything before it is inlined."""
    last = mark.blocks_of(sch)[-1]
    inline_others(sch, last)
    loops = sch.get_loops(last)
    bind_flat(sch, loops or [sch.add_unit_loop(last)])


def schedule_reduction(sch: Schedule, kernel: SBlockRV) -> None:
    """A reduction with element-wise work before and behind it, all in one kernel."""
    last = mark.blocks_of(sch)[-1]
    inline_others(sch, kernel, last)
    parallel, reduced = loops_of(sch, kernel)
    results = prod(mark.extent(sch, loop) for loop in parallel)
    length = prod(mark.extent(sch, loop) for loop in reduced)
    shared = length >= SHARED_REDUCTION and results < FULL_DEVICE
    behind = sch.get(last).name_hint != sch.get(kernel).name_hint
    outer = last if behind else kernel
    points = sch.get_loops(last) if behind else parallel
    if not behind:
        sch.reorder(*parallel, *reduced)
    points = points or [sch.add_unit_loop(outer)]
    at = bind_warps(sch, points, WARPS) if shared else bind_flat(sch, points, THREADS)
    if behind:
        for i in range(len(sch.get(kernel).writes)):  # two for the largest value and its position
            sch.set_scope(kernel, i, "local")
        sch.compute_at(kernel, at)
        # Of the loops below, those for a single point are gone: all that are left accumulate.
        reduced = sch.get_loops(kernel)[len(sch.get_loops(last)) :]
    if shared:
        _share(sch, reduced, length)
    else:
        _unroll(sch, reduced)


def _share(sch: Schedule, reduced: list[LoopRV], length: int) -> None:
    """Let the threads of a warp accumulate every 32nd term each; then they add what they have."""
    lanes = WARP if length > WARP // 2 else WARP // 2
    _, lane = sch.split(sch.fuse(*reduced), [None, lanes])
    sch.bind(lane, "threadIdx.x")


def _unroll(sch: Schedule, reduced: list[LoopRV]) -> None:
    steps = 1
    for loop in reversed(reduced):
        steps *= mark.extent(sch, loop)
        if steps > UNROLL:
            break
        sch.unroll(loop)
