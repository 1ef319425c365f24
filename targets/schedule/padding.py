"""Copying into padding."""

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from crespr_onnx.targets.schedule import annotations as mark
from crespr_onnx.targets.schedule.injective import vectorize_innermost


def fill_padding(sch: Schedule, block: SBlockRV, at: LoopRV) -> None:
    """Clear what a block writes below a loop, then copy, instead of asking at every element.

    Where it reads every so manieth number, as its mark says, the loop is left to LLVM, which
    loads whole vectors and picks of them.
    """
    step = mark.annotation(sch, block, mark.STAGE)
    if sch.can_decompose_padding(block, at):
        sch.decompose_padding(block, at)
    if step is None or step == 1:
        vectorize_innermost(sch, block)
