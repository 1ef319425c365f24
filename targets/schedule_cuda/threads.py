"""Mapping loops to the blocks and threads of a CUDA device."""

from collections.abc import Sequence

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from crespr_onnx.targets.schedule import annotations as mark

WARP = 32
THREADS = 128
"""Threads per block of element-wise work: four warps, one for each scheduler of an SM."""


def bind_flat(sch: Schedule, loops: Sequence[LoopRV], threads: int = THREADS) -> LoopRV:
    """One thread for each point of some loops; returns the loop of the threads."""
    fused = sch.fuse(*loops)
    # Whole warps, but not many more than there is work for.
    points = mark.extent(sch, fused)
    threads = min(threads, -(-points // WARP) * WARP)
    blocks, inner = sch.split(fused, [None, threads])
    sch.bind(blocks, "blockIdx.x")
    sch.bind(inner, "threadIdx.x")
    return inner


def bind_warps(sch: Schedule, loops: Sequence[LoopRV], warps: int) -> LoopRV:
    """One row of threads for each point of some loops; returns the loop of the rows."""
    blocks, inner = sch.split(sch.fuse(*loops), [None, warps])
    sch.bind(blocks, "blockIdx.x")
    sch.bind(inner, "threadIdx.y")
    return inner


def loops_of(sch: Schedule, block: SBlockRV) -> tuple[list[LoopRV], list[LoopRV]]:
    """The loops around a block that are parallel, and those that accumulate."""
    loops = sch.get_loops(block)
    kinds = [int(var.iter_type) for var in sch.get(block).iter_vars]
    parallel = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == 0]
    reduced = [loop for loop, kind in zip(loops, kinds, strict=True) if kind != 0]
    return parallel, reduced


def inline_others(sch: Schedule, *kept: SBlockRV) -> None:
    """Inline every block but these; each must be element-wise."""
    names = {sch.get(block).name_hint for block in kept}
    for block in mark.blocks_of(sch):
        if sch.get(block).name_hint not in names:
            sch.compute_inline(block)
