"""Deterministic schedules for CPUs: TVM's default pipeline applies none, and is far slower.

Convolutions and matrix products with constant weights are replaced by kernels of our own on
weights packed at compile time; the operators behind them are fused into them; then each function
is scheduled by the rule for its kind. A function that no rule fits stays as TVM made it.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
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
from crespr_onnx.targets.schedule.products import Product
from crespr_onnx.targets.schedule.reduction import schedule_reduction
from crespr_onnx.targets.schedule.row_reduction import REDUCTIONS, legalize_row_reduction
from crespr_onnx.targets.schedule.rows_rule import schedule_rows
from crespr_onnx.targets.schedule.selected import Kernels
from crespr_onnx.targets.schedule.softmax import legalize_softmax
from crespr_onnx.targets.schedule.tiles import Tile
from crespr_onnx.targets.schedule.window_rule import schedule_window

log = logging.getLogger(__name__)

Chosen = Callable[[tvm.tirx.PrimFunc], tvm.tirx.PrimFunc | None]

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


def schedule_module(
    module: tvm.IRModule,
    target: tvm.target.Target,
    threads: int,
    tiles: Mapping[Product, Tile] | None = None,
    chosen: Chosen | None = None,
) -> tvm.IRModule:
    """Lower, fuse and schedule a module; what is left for `tvm.compile` is code generation.

    Args:
        module: as imported.
        target: with the CPU.
        threads: that a run may use.
        tiles: those to use instead of the ones that are estimated to be the fastest.
        chosen: schedules a function in another way than our rules do, or returns None.
    """
    machine = replace(machine_of(target, threads), tiles=tiles or {})
    lowered = lower_for(module, target, machine)
    for variable, function in lowered.functions_items():
        if isinstance(function, tvm.tirx.PrimFunc):
            other = None if chosen is None else chosen(function)
            lowered[variable] = schedule_function(function, machine) if other is None else other
    return lowered


def lower_for(module: tvm.IRModule, target: tvm.target.Target, machine: Machine) -> tvm.IRModule:
    """Replace operators by functions, ours where we have kernels, and fuse them."""
    kernels = Kernels(partial(legalize_conv2d, machine), partial(emit_matmul, machine))
    legalizers = {op: partial(legalize, machine) for op, legalize in LEGALIZE.items()}
    with target:
        return lower(module, legalizers, kernels)


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
