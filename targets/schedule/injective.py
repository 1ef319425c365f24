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
    """Whether a block is element-wise and not a stage of a kernel."""
    if mark.reduces(sch, block) or mark.annotation(sch, block, mark.KERNEL) is not None:
        return False
    consumers = sch.get_consumers(block)
    is_stage = any(mark.annotation(sch, user, mark.KERNEL) is not None for user in consumers)
    return bool(consumers) and not is_stage and len(sch.get(block).writes) == 1
