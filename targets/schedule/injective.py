"""Element-wise work: one vectorised loop nest, everything before it inlined."""

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from crespr_onnx.targets.schedule import annotations as mark


def schedule_injective(sch: Schedule, last: SBlockRV) -> None:
    """Inline the element-wise blocks between the kernels and the last block; vectorise that."""
    final = sch.get(last).name_hint
    for block in mark.blocks_of(sch):
        if sch.get(block).name_hint != final and _is_plain(sch, block):
            sch.compute_inline(block)
    vectorize_innermost(sch, last)


def vectorize_innermost(sch: Schedule, block: SBlockRV) -> None:
    """Vectorise the innermost loop over as much of it as divides it."""
    loop = sch.get_loops(block)[-1]
    width = mark.widest(sch, loop)
    if width > 1:
        sch.vectorize(sch.split(loop, [None, width])[-1])


def _is_plain(sch: Schedule, block: SBlockRV) -> bool:
    """Whether a block is element-wise and not part of a kernel."""
    ours = any(mark.annotation(sch, block, key) is not None for key in (mark.KERNEL, mark.STAGE))
    return not ours and not mark.reduces(sch, block) and bool(sch.get_consumers(block))
