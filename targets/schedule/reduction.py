"""Pooling and other reductions that are not products."""

from math import prod

from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV
from tvm.sym import detect_linear_equation

from crespr_onnx.targets.schedule import annotations as mark
from crespr_onnx.targets.schedule.injective import schedule_injective

# Additions in flight that hide the latency of one.
CHAINS = 8
# Windows up to this size, such as those of pooling, are unrolled; sums over whole images are not.
SMALL_WINDOW = 25
# Shorter rows LLVM computes number by number, in three to five times the time of vectors.
LONG_ROW = 16


def schedule_reduction(sch: Schedule, kernel: SBlockRV) -> None:
    """Schedule a function with one reduction, such as pooling or a mean."""
    blocks = mark.blocks_of(sch)
    if sch.get(kernel).name_hint != sch.get(blocks[-1]).name_hint:
        schedule_injective(sch, blocks[-1])
    if _is_strided_maximum(sch, kernel):
        return
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


def _is_strided_maximum(sch: Schedule, kernel: SBlockRV) -> bool:
    """Whether neighbouring results, in long rows, are maxima of numbers with a step between them.

    LLVM makes more of these than vectors that gather: a third of the time with 2 x 2 windows.
    """
    found = sch.get(kernel)
    if not isinstance(found.body.value, tirx.Max):
        return False
    inner = [axis for axis in found.iter_vars if int(axis.iter_type) == 0][-1]
    if int(inner.dom.extent) < LONG_ROW:
        return False
    last = found.reads[-1].region[-1].min
    factors = detect_linear_equation(last, [inner.var])
    return bool(factors) and int(factors[0]) > 1
