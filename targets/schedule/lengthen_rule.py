"""The schedule of `lengthen`: clear the rows, then copy, instead of asking at every element."""

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from crespr_onnx.targets.schedule.injective import inline_plain
from crespr_onnx.targets.schedule.machine import Machine
from crespr_onnx.targets.schedule.padding import fill_padding


def schedule_lengthen(sch: Schedule, kernel: SBlockRV, machine: Machine) -> None:
    """Schedule a function that ends in a block made by `lengthen_rows`."""
    inline_plain(sch, kernel)
    fill_padding(sch, kernel, sch.get_loops(kernel)[0])
