"""Deterministic schedules for CPUs: TVM's default pipeline applies none, and is far slower.

Convolutions and matrix products with constant weights are replaced by kernels of our own on
weights packed at compile time; the operators behind them are fused into them; then each function
is scheduled by the rule for its kind. A function that no rule fits stays as TVM made it.
"""

import logging
from functools import partial

import tvm
from tvm.s_tir import Schedule

from crespr_onnx.targets.schedule import annotations as mark
from crespr_onnx.targets.schedule.activations import FAST, legalize_activation
from crespr_onnx.targets.schedule.conv2d import legalize_conv2d
from crespr_onnx.targets.schedule.conv2d_rule import schedule_conv2d
from crespr_onnx.targets.schedule.conv2d_transpose import legalize_conv2d_transpose
from crespr_onnx.targets.schedule.injective import schedule_injective
from crespr_onnx.targets.schedule.layer_norm import legalize_layer_norm
from crespr_onnx.targets.schedule.lengthen_rule import schedule_lengthen
from crespr_onnx.targets.schedule.lower import lower
from crespr_onnx.targets.schedule.machine import Machine, machine_of
from crespr_onnx.targets.schedule.matmul import emit_matmul, legalize_matmul
from crespr_onnx.targets.schedule.matmul_rule import schedule_matmul
from crespr_onnx.targets.schedule.pooling import legalize_pool2d
from crespr_onnx.targets.schedule.reduction import schedule_reduction
from crespr_onnx.targets.schedule.row_reduction import REDUCTIONS, legalize_row_reduction
from crespr_onnx.targets.schedule.rows_rule import schedule_rows
from crespr_onnx.targets.schedule.selected import Kernels
from crespr_onnx.targets.schedule.softmax import legalize_softmax
from crespr_onnx.targets.schedule.window_rule import schedule_window

log = logging.getLogger(__name__)

LEGALIZE = {
    "relax.nn.conv2d": legalize_conv2d,
    "relax.nn.conv2d_transpose": legalize_conv2d_transpose,
    "relax.matmul": legalize_matmul,
    "relax.nn.softmax": legalize_softmax,
    "relax.nn.log_softmax": legalize_softmax,
    "relax.nn.layer_norm": legalize_layer_norm,
    "relax.nn.max_pool2d": legalize_pool2d,
    "relax.nn.avg_pool2d": legalize_pool2d,
    **dict.fromkeys(REDUCTIONS, legalize_row_reduction),
    **dict.fromkeys(FAST, legalize_activation),
}
KERNEL_RULES = {
    "conv2d": schedule_conv2d,
    "lengthen": schedule_lengthen,
    "matmul": schedule_matmul,
    "rows": schedule_rows,
    "window": schedule_window,
}


def schedule_module(module: tvm.IRModule, target: tvm.target.Target, threads: int) -> tvm.IRModule:
    """Lower, fuse and schedule a module; what is left for `tvm.compile` is code generation."""
    machine = machine_of(target, threads)
    kernels = Kernels(partial(legalize_conv2d, machine), partial(emit_matmul, machine))
    legalizers = {op: partial(legalize, machine) for op, legalize in LEGALIZE.items()}
    with target:
        lowered = lower(module, legalizers, kernels)
    for variable, function in lowered.functions_items():
        if isinstance(function, tvm.tirx.PrimFunc):
            lowered[variable] = schedule_function(function, machine)
    return lowered


def schedule_function(function: tvm.tirx.PrimFunc, machine: Machine) -> tvm.tirx.PrimFunc:
    """Apply the rule for a function's kind; the function as it is if that fails."""
    try:
        sch = Schedule(function)
        _apply_rule(sch, machine)
        return sch.mod["main"]
    except Exception as error:
        log.debug("no schedule: %s\n%s", error, function)
        return function


def _apply_rule(sch: Schedule, machine: Machine) -> None:
    blocks = mark.blocks_of(sch)
    for block in blocks:
        kernel = mark.annotation(sch, block, mark.KERNEL)
        if kernel is not None:
            KERNEL_RULES[str(kernel)](sch, block, machine)
            return
    reductions = [block for block in blocks if mark.reduces(sch, block)]
    if not reductions:
        schedule_injective(sch, blocks[-1])
    elif len(reductions) == 1:
        schedule_reduction(sch, reductions[0])
