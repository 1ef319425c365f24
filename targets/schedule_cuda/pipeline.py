"""From an imported model to kernels that are bound to the blocks and threads of a CUDA device.

Nothing may stay unbound: code for a device cannot be made of it. So each function gets the first
of our rules and of TVM's own (dlight) that applies; the last of them takes whatever is left.
"""

import logging
from collections.abc import Callable

import tvm
from tvm.relax.backend.cuda import pipeline as cuda_pipeline
from tvm.s_tir import Schedule
from tvm.s_tir import dlight as dl

from crespr_onnx.errors import CompileError
from crespr_onnx.targets.brief import brief
from crespr_onnx.targets.cuda import CAPABILITIES
from crespr_onnx.targets.schedule import annotations as mark
from crespr_onnx.targets.schedule.lower import lower
from crespr_onnx.targets.schedule.selected import Kernels
from crespr_onnx.targets.schedule_cuda.conv2d import legalize_conv2d
from crespr_onnx.targets.schedule_cuda.conv2d_rule import schedule_convolution
from crespr_onnx.targets.schedule_cuda.matmul import emit_matmul, legalize_matmul
from crespr_onnx.targets.schedule_cuda.rules import schedule_elementwise, schedule_reduction
from crespr_onnx.targets.schedule_cuda.threads import loops_of

log = logging.getLogger(__name__)

Rule = Callable[[tvm.tirx.PrimFunc, tvm.target.Target], tvm.tirx.PrimFunc | None]


LEAST_SIDE = 64
"""Of a matrix product from which on dlight's tiles are used."""
LEGALIZE = {"relax.nn.conv2d": legalize_conv2d, "relax.matmul": legalize_matmul}


def schedule_module(module: tvm.IRModule, target: tvm.target.Target) -> tvm.IRModule:
    """Lower, fuse and schedule a module; what is left is to plan memory and to generate code.

    Raises:
        CompileError: no rule fits a function.
    """
    with target:
        lowered = lower(module, LEGALIZE, Kernels(legalize_conv2d, emit_matmul))
        for variable, function in lowered.functions_items():
            if isinstance(function, tvm.tirx.PrimFunc):
                scheduled = schedule_function(function, target, variable.name_hint)
                lowered[variable] = _narrow(scheduled)
    return lowered


def _narrow(function: tvm.tirx.PrimFunc) -> tvm.tirx.PrimFunc:
    """Compute indices in 32 bits: a device takes several steps for 64."""
    narrow = tvm.tirx.transform.ForceNarrowIndexToInt32()
    try:
        return narrow(tvm.IRModule({"main": function}))["main"]
    except Exception as error:  # a tensor of 2^31 elements or more, or a size that is not known
        log.debug("indices stay as they are: %s", brief(error))
        return function


def lower_module(module: tvm.IRModule, target: tvm.target.Target) -> tvm.IRModule:
    """Plan memory for what `schedule_module` returned, without scheduling it again."""
    with target:
        return tvm.transform.Sequential(
            [*cuda_pipeline.dataflow_lower_passes(target), *cuda_pipeline.finalize_passes(target)]
        )(module)


def schedule_function(
    function: tvm.tirx.PrimFunc, target: tvm.target.Target, name: str = "main"
) -> tvm.tirx.PrimFunc:
    """A function with its loops bound by the first rule that applies.

    Raises:
        CompileError: none does.
    """
    if "tirx.is_scheduled" in function.attrs:
        return function
    for title, rule in RULES.items():
        try:
            scheduled = rule(function, target)
        except Exception as error:
            log.debug("%s does not apply to %s: %s", title, name, brief(error))
            continue
        if scheduled is not None:
            log.debug("%s: %s", name, title)
            return scheduled.with_attr("tirx.is_scheduled", True)
    raise CompileError(f"no CUDA schedule fits the kernel {name!r}; use --target onnx")


def _kernel(function: tvm.tirx.PrimFunc, target: tvm.target.Target) -> tvm.tirx.PrimFunc | None:
    """Around a computation of our own."""
    sch = Schedule(function)
    for block in mark.blocks_of(sch):
        kernel = mark.annotation(sch, block, mark.KERNEL)
        if kernel == "conv2d":
            schedule_convolution(sch, block, CAPABILITIES[str(target.attrs["arch"])])
            return sch.mod["main"]
        if kernel == "matmul":
            schedule_reduction(sch, block)
            return sch.mod["main"]
    return None


def _tiled(function: tvm.tirx.PrimFunc, target: tvm.target.Target) -> tvm.tirx.PrimFunc | None:
    """A product large enough for the tiles of dlight's rule, which pads to them."""
    sch = Schedule(function)
    reductions = [block for block in mark.blocks_of(sch) if mark.reduces(sch, block)]
    if len(reductions) != 1:
        return None
    parallel, _ = loops_of(sch, reductions[0])
    if len(parallel) < 2 or any(mark.extent(sch, loop) < LEAST_SIDE for loop in parallel[-2:]):
        return None
    return _dlight(dl.gpu.Matmul())(function, target)


def _plain(function: tvm.tirx.PrimFunc, target: tvm.target.Target) -> tvm.tirx.PrimFunc | None:
    """Element-wise work, or one reduction."""
    sch = Schedule(function)
    reductions = [block for block in mark.blocks_of(sch) if mark.reduces(sch, block)]
    if len(reductions) > 1:
        return None
    if reductions:
        schedule_reduction(sch, reductions[0])
    else:
        schedule_elementwise(sch)
    return sch.mod["main"]


def _dlight(rule: dl.ScheduleRule) -> Rule:
    def apply(function: tvm.tirx.PrimFunc, target: tvm.target.Target) -> tvm.tirx.PrimFunc | None:
        found = rule.apply(function, target, False)
        return None if found is None else found.mod["main"]

    return apply


RULES: dict[str, Rule] = {
    "kernel": _kernel,
    "dlight Matmul": _tiled,
    "plain": _plain,
    "dlight GeneralReduction": _dlight(dl.gpu.GeneralReduction()),
    "dlight Fallback": _dlight(dl.gpu.Fallback()),
}
