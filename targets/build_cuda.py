"""Building a model for CUDA devices, with kernels compiled here; no GPU or driver is needed.

TVM embeds CUDA *source* where its CUDA runtime cannot be loaded, as on any machine without a
driver, and says nothing. So its source is compiled here, and what comes of it is put in its place
while the library is packed (`cuda_pack`).

Imports TVM: only processes of `worker` import this module.
"""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tvm
import tvm_ffi

from crespr_onnx.errors import CompileError
from crespr_onnx.targets.brief import brief
from crespr_onnx.targets.cuda import needs_of
from crespr_onnx.targets.cuda_compiler import DeviceCode, compile_source, find_compiler
from crespr_onnx.targets.cuda_pack import check_library, put_code
from crespr_onnx.targets.link import link_library, run_compiler
from crespr_onnx.targets.schedule_cuda.pipeline import lower_module, schedule_module
from crespr_onnx.targets.system import System, compiler
from crespr_onnx.targets.target import Target

log = logging.getLogger(__name__)

_CREATE = "ffi.Module.create.cuda"

_EMBED = """\
__asm__(
    ".section .rodata\\n"
    ".globl {symbol}\\n"
    ".type {symbol}, %object\\n"
    ".size {symbol}, {size}\\n"
    ".balign 64\\n"
    "{symbol}:\\n"
    ".incbin \\"imports.bin\\"\\n"
    ".section .note.GNU-stack,\\"\\",%progbits\\n");
"""


@dataclass(frozen=True)
class CudaBuild:
    """What building leaves besides the library.

    Attributes:
        source: of all kernels.
        manifest: what the manifest tells of them.
    """

    source: str
    manifest: Mapping[str, Any]


def build_for_cuda(path: Path, module: tvm.IRModule, target: Target) -> CudaBuild:
    """Compile an imported model, and write its library.

    Args:
        path: the library.
        module: what TVM imported.
        target: one of the CUDA targets.

    Raises:
        CompileError: TVM cannot compile it, there is no CUDA compiler or it refused, or the library
            does not hold what was compiled.
    """
    find_compiler()
    options = dict(target.tvm)
    # Without it TVM leaves the source to us, whether there is a driver here or not.
    if tvm_ffi.get_global_func(_CREATE, allow_missing=True) is not None:
        tvm_ffi.registry.remove_global_func(_CREATE)
    executable = _compile(module, tvm.target.Target(options))
    source = cuda_source(executable.mod)
    code = compile_source(source, options["arch"])
    _export(executable, source, code, path, target.system)
    manifest = {
        "device": "cuda",
        "compiler": code.compiler,
        "needs": needs_of(options["arch"]),
        "kernels": [asdict(use) for use in code.uses],
    }
    return CudaBuild(source, manifest)


def _compile(module: tvm.IRModule, target: tvm.target.Target) -> tvm.runtime.Executable:
    try:
        try:
            lowered = lower_module(schedule_module(module, target), target)
            return tvm.compile(lowered, target=target, relax_pipeline=None)
        except Exception as error:
            # Code generation may refuse what a schedule made; TVM's own are better than none.
            log.warning("compiling with TVM's schedules: %s", brief(error))
            return tvm.compile(module, target=target)
    except Exception as error:
        raise CompileError(f"TVM cannot compile the model: {brief(error)}") from error


def cuda_source(module: tvm.runtime.Module) -> str:
    """The source of all kernels of a compiled model."""
    found = [found for found in _tree(module) if found.kind == "cuda"]
    if len(found) != 1:
        raise CompileError(f"TVM made {len(found)} modules of kernels; one was expected")
    return str(found[0].inspect_source("cuda"))


def _tree(module: tvm.runtime.Module) -> list[tvm.runtime.Module]:
    return [module, *(deep for below in module.imports for deep in _tree(below))]


def _export(
    executable: tvm.runtime.Executable,
    source: str,
    code: DeviceCode,
    path: Path,
    system: System | None,
) -> None:
    """Link the library, with compiled kernels in place of their source."""

    def pack(module: tvm.runtime.Module, _: bool, prefix: str, workspace: str) -> str:
        packed = tvm_ffi.get_global_func("runtime.ModulePackImportsToTensor")(module)
        blob = put_code(packed.numpy().tobytes(), source, code.image)
        symbol = prefix + tvm_ffi.get_global_func("runtime.ModuleImportsBlobName")()
        # Relative names throughout, so that no file remembers where it was built.
        folder = Path(workspace)
        (folder / "imports.bin").write_bytes(blob)
        embedding = _EMBED.format(symbol=symbol, size=len(blob))
        (folder / "imports.c").write_text(embedding, encoding="ascii")
        command = [*compiler(system), "-c", "-g0", "-fPIC", "imports.c", "-o", "imports.o"]
        run_compiler(command, folder)
        return str(folder / "imports.o")

    def link(output: str, objects: list[str], **_: object) -> None:
        link_library(Path(output), objects, system)

    try:
        executable.mod.export_library(str(path), fcompile=link, fpack_imports=pack)
    except CompileError:
        raise
    except Exception as error:
        raise CompileError(f"linking the artefact failed: {brief(error)}") from error
    check_library(path.read_bytes(), source, code)
