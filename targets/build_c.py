"""Building a model as a static library in plain C, for systems without a runtime of TVM's.

Imports TVM: only processes of `worker` import this module.
"""

import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tvm

from crespr_onnx.errors import CompileError
from crespr_onnx.targets.brief import brief
from crespr_onnx.targets.fuse_multiply_add import fuse_multiply_adds
from crespr_onnx.targets.link import run_compiler
from crespr_onnx.targets.plan import Plan
from crespr_onnx.targets.plan_c import CONSTANTS, Specs, plan_to_c
from crespr_onnx.targets.plan_relax import lower_to_calls, plan_of
from crespr_onnx.targets.schedule.pipeline import schedule_module
from crespr_onnx.targets.system import System, archiver, compiler

RUNNERS = Path(__file__).with_name("runners")
HEADER = RUNNERS / "tiny.h"
"""What a program includes that links with the library."""

FLAGS = ("-c", "-O2", "-g0", "-std=gnu11", "-fPIC", "-fno-sanitize=undefined")
MAX_ARGUMENTS = 64
PROVIDED = {
    "TVMFFIErrorSetRaisedFromCStr", "TVMFFIErrorSetRaisedFromCStrParts",
    "__TVMBackendAllocWorkspace", "__TVMBackendFreeWorkspace",
}  # fmt: skip
"""What of TVM's runtime ``runners/tiny.c`` stands in for."""

MAX_TENSORS = 2**15 - 1


def kernels_of(module: tvm.IRModule, target: tvm.target.Target) -> tuple[Plan, Any]:
    """The plan of an imported model, and the LLVM module of the kernels that it calls."""
    with target:
        calls = lower_to_calls(schedule_module(module, target, 1))
    kernels = {
        variable: function
        for variable, function in calls.functions_items()
        if isinstance(function, tvm.tirx.PrimFunc)
    }
    library = tvm.tirx.build(tvm.IRModule(kernels), target=target)
    return plan_of(calls), fuse_multiply_adds(library, target)


def compile_to_objects(module: tvm.IRModule, options: Mapping[str, Any], path: Path) -> Plan:
    """Write the object file of a model's kernels, and return the plan that calls them.

    Raises:
        CompileError: TVM cannot compile it, or it needs TVM's runtime.
    """
    try:
        plan, library = kernels_of(module, tvm.target.Target(options))
        needed = set(re.findall(r"@(_*TVM\w+)", library.inspect_source("ll"))) - PROVIDED
        library.write_to_file(str(path))
    except CompileError:
        raise
    except Exception as error:
        raise CompileError(f"TVM cannot compile the model: {brief(error)}") from error
    if needed:
        raise CompileError(
            f"the model calls {min(needed).lstrip('_')}, which is in TVM's runtime, and there is "
            "none for this target; use --target onnx"
        )
    most = max((len(step.arguments) for step in plan.steps), default=0)
    if most > MAX_ARGUMENTS or len(plan.tensors) > MAX_TENSORS:
        raise CompileError(
            f"the model has {len(plan.tensors)} tensors, and a kernel with {most} arguments; the "
            f"C runtime takes {MAX_TENSORS} and {MAX_ARGUMENTS}"
        )
    return plan


def build_archive(
    path: Path,
    module: tvm.IRModule,
    options: Mapping[str, Any],
    system: System | None,
    inputs: Specs,
    outputs: Specs,
) -> Plan:
    """Write ``libmodel.a``: kernels, constants, plan and the tiny runtime that runs it.

    Args:
        path: the archive.
        module: what TVM imported.
        options: TVM target.
        system: what to compile for; None is this machine.
        inputs: name, shape and dtype of each input.
        outputs: the same of the outputs.

    Raises:
        CompileError: TVM cannot compile it, it needs TVM's runtime, or a compiler is missing.
    """
    command, archive = compiler(system), archiver(system)
    with tempfile.TemporaryDirectory(prefix=".build-", dir=path.parent) as name:
        # Relative names throughout, so that no file remembers where it was built.
        scratch = Path(name)
        plan = compile_to_objects(module, options, scratch / "kernels.o")
        (scratch / CONSTANTS).write_bytes(plan.constants)
        source = plan_to_c(plan, inputs, outputs)
        (scratch / "plan.c").write_text(source, encoding="ascii")
        for file in ("tiny.c", "tiny.h", "plan.h"):
            shutil.copyfile(RUNNERS / file, scratch / file)
        for stem in ("plan", "tiny"):
            run_compiler([*command, *FLAGS, f"{stem}.c", "-o", f"{stem}.o"], scratch)
        objects = ["plan.o", "tiny.o", "kernels.o"]
        run_compiler([*archive, "rcsD", "archive.a", *objects], scratch)
        (scratch / "archive.a").replace(path)
    return plan
