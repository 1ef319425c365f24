"""Element-wise work: one vectorised loop nest, everything before it inlined."""

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from crespr_onnx.targets.schedule import annotations as mark
from crespr_onnx.targets.schedule.transpose_rule import tile_transpose

# Narrower vectors than these are worse than what LLVM makes of a loop by itself.
LEAST_WIDTH = 4


def schedule_injective(sch: Schedule, last: SBlockRV) -> None:
    """Inline the element-wise blocks between the kernels and the last block; vectorise that."""
    inline_plain(sch, last)
    vectorize_innermost(sch, last)


def inline_plain(sch: Schedule, last: SBlockRV) -> None:
    """Inline the element-wise blocks between the kernels and the last block."""
    final = sch.get(last).name_hint
    for block in mark.blocks_of(sch):
        if sch.get(block).name_hint != final and _is_plain(sch, block):
            sch.compute_inline(block)


def vectorize_innermost(sch: Schedule, block: SBlockRV, limit: int = 64) -> None:
    """Vectorise the innermost loop over as much of it as divides it.

    A long loop without a good divisor is left to LLVM, which takes its end apart; a block that
    transposes is tiled.
    """
    if tile_transpose(sch, block):
        return
    loop = sch.get_loops(block)[-1]
    width = mark.widest(sch, loop, limit)
    if width >= LEAST_WIDTH or 1 < width == mark.extent(sch, loop):
        sch.vectorize(sch.split(loop, [None, width])[-1])


def _is_plain(sch: Schedule, block: SBlockRV) -> bool:
    """Whether a block is element-wise and not part of a kernel."""
    ours = any(mark.annotation(sch, block, key) is not None for key in (mark.KERNEL, mark.STAGE))
    return not ours and not mark.reduces(sch, block) and bool(sch.get_consumers(block))
