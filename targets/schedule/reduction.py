"""Pooling and other reductions that are not products."""

from math import prod

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from crespr_onnx.targets.schedule import annotations as mark
from crespr_onnx.targets.schedule.injective import schedule_injective

# Additions in flight that hide the latency of one.
CHAINS = 8
# Windows up to this size, such as those of pooling, are unrolled; sums over whole images are not.
SMALL_WINDOW = 25


def schedule_reduction(sch: Schedule, kernel: SBlockRV) -> None:
    """Schedule a function with one reduction, such as pooling or a mean."""
    blocks = mark.blocks_of(sch)
    if sch.get(kernel).name_hint != sch.get(blocks[-1]).name_hint:
        schedule_injective(sch, blocks[-1])
    loops = sch.get_loops(kernel)
    kinds = [int(var.iter_type) for var in sch.get(kernel).iter_vars]
    spatial = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == 0]
    reduced = [loop for loop, kind in zip(loops, kinds, strict=True) if kind != 0]
    window = prod(mark.extent(sch, loop) for loop in reduced)
    inner = next((loop for loop in reversed(spatial) if mark.extent(sch, loop) > 1), spatial[-1])
    small = window <= SMALL_WINDOW
    outer, lane = sch.split(inner, [None, mark.widest(sch, inner, 64 if small else CHAINS)])
    others = [loop for loop in spatial if loop is not inner]
    sch.reorder(*others, outer, *reduced, lane)
    if small:
        for loop in reduced:
            sch.unroll(loop)
        sch.vectorize(lane)
    else:
        sch.unroll(lane)
    sch.decompose_reduction(kernel, reduced[0])
