"""Copying into padding."""

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from crespr_onnx.targets.schedule.injective import vectorize_innermost


def fill_padding(sch: Schedule, block: SBlockRV, at: LoopRV) -> None:
    """Clear what a block writes below a loop, then copy, instead of asking at every element."""
    if sch.can_decompose_padding(block, at):
        sch.decompose_padding(block, at)
    vectorize_innermost(sch, block)
