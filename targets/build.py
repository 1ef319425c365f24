"""Building the library of a model.

Imports TVM: only processes of `worker` import this module.
"""

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx
import tvm
from tvm.target import codegen

from crespr_onnx.errors import CompileError
from crespr_onnx.targets import run
from crespr_onnx.targets.board_runtime import needed_runtime
from crespr_onnx.targets.brief import brief
from crespr_onnx.targets.cuda_compiler import SOURCE
from crespr_onnx.targets.link import link_library
from crespr_onnx.targets.schedule.pipeline import schedule_module
from crespr_onnx.targets.system import System
from crespr_onnx.targets.target import Target
from crespr_onnx.targets.tuning.choices import Choices, choices_of
from crespr_onnx.targets.tuning.records import read_records
from crespr_onnx.targets.tvm_import import import_onnx

log = logging.getLogger(__name__)


def build_library(
    model_path: Path,
    folder: Path,
    input_shapes: Mapping[str, tuple[int, ...]],
    target: Target,
    threads: int,
    records: Path | None = None,
) -> list[str]:
    """Compile an ONNX model into a library, with what is needed to run it.

    Args:
        model_path: an ONNX file with its constants folded.
        folder: where to write; it exists.
        input_shapes: shape of every input whose shape is not fixed by the model.
        target: a target that compiles; without ``mcpu`` it is the CPU of this machine.
        threads: number of threads that a run may use; plain C uses one.
        records: file of tuning records to apply where they fit; plain C and CUDA take none.

    Returns:
        Names of the files written.

    Raises:
        CompileError: TVM cannot import or compile the model, or no linker was found.
    """
    module = import_onnx(model_path, input_shapes)
    threads = threads if target.library == run.LIBRARY else 1
    on_cuda = target.tvm.get("kind") == "cuda"
    options = dict(target.tvm) if on_cuda else cpu_options(target, threads)
    signature = _signature(onnx.load(model_path, load_external_data=False), module)
    manifest = {
        "schema": 1,
        "library": target.library,
        **signature,
        "name": target.name,
        "target": options,
        "threads": threads,
        "versions": {name: version(name) for name in ("apache-tvm", "apache-tvm-ffi")},
    }
    copies = {"run.py": Path(run.__file__)}
    sources = {}
    if on_cuda:
        from crespr_onnx.targets.build_cuda import build_for_cuda

        built = []
        _write(folder, run.LIBRARY, lambda path: built.append(build_for_cuda(path, module, target)))
        manifest |= built[0].manifest
        sources = {SOURCE: built[0].source}
    elif target.library == run.LIBRARY:
        choices = Choices() if records is None else choices_of(read_records(records, options))
        executable = _compile(module, options, threads, choices)
        _write(folder, run.LIBRARY, lambda path: _export(executable, path, target.system))
    else:
        from crespr_onnx.targets.build_c import HEADER, build_archive

        copies = {HEADER.name: HEADER}
        plans = []
        _write(
            folder,
            target.library,
            lambda path: plans.append(
                build_archive(
                    path, module, options, target.system, signature["inputs"], signature["outputs"]
                )
            ),
        )
        manifest["memory_bytes"] = plans[0].memory
        manifest["needs"] = {"memory": f"{plans[0].memory:,} bytes beside the library"}
    if target.library == run.LIBRARY and target.system is not None:
        copies |= needed_runtime(target.system, folder / run.LIBRARY, on_cuda)
    sources[run.MANIFEST] = json.dumps(manifest, indent=1) + "\n"
    for name, source in copies.items():
        _write(folder, name, partial(shutil.copyfile, source))
    for name, content in sources.items():
        _write(folder, name, partial(_write_text, content))
    return [target.library, *sources, *copies]


def _write_text(content: str, path: Path) -> None:
    path.write_text(content, encoding="utf-8")


def cpu_options(target: Target, threads: int) -> dict[str, Any]:
    """The TVM target for a CPU, with this machine's where none is named."""
    return {"mcpu": codegen.llvm_get_system_cpu(), **target.tvm, "num-cores": threads}


def _compile(
    module: tvm.IRModule, options: Mapping[str, Any], threads: int, choices: Choices
) -> tvm.runtime.Executable:
    try:
        target = tvm.target.Target(options)
        try:
            scheduled = schedule_module(module, target, threads, choices.tiles, choices.schedule)
            return tvm.compile(scheduled, target=target)
        except Exception as error:
            # Code generation may refuse what a schedule made; slow code is better than none.
            log.warning("compiling without schedules: %s", brief(error))
            return tvm.compile(module, target=target)
    except Exception as error:
        raise CompileError(f"TVM cannot compile the model: {brief(error)}") from error


def _signature(model: onnx.ModelProto, module: tvm.IRModule) -> dict[str, Any]:
    """Names, shapes and dtypes of inputs and outputs, in the order of the compiled function."""
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value.name for value in model.graph.input if value.name not in constants]
    outputs = [value.name for value in model.graph.output]
    main = module["main"]
    result = main.ret_ty
    results = list(result.fields) if isinstance(result, tvm.ir.TupleType) else [result]
    return {
        "inputs": _tensors(inputs, [param.ty for param in main.params]),
        "outputs": _tensors(outputs, results),
    }


def _tensors(names: list[str], types: list[Any]) -> list[dict[str, Any]]:
    return [
        {"name": name, "shape": [int(dim) for dim in kind.shape], "dtype": str(kind.dtype)}
        for name, kind in zip(names, types, strict=True)
    ]


def _export(executable: tvm.runtime.Executable, path: Path, system: System | None) -> None:
    def link(output: str, objects: list[str], **_: object) -> None:
        link_library(Path(output), objects, system)

    try:
        executable.export_library(str(path), fcompile=link)
    except CompileError:
        raise
    except Exception as error:
        raise CompileError(f"linking the artefact failed: {brief(error)}") from error


def _write(folder: Path, name: str, write: Callable[[Path], object]) -> None:
    """Let a file appear whole or not at all."""
    with tempfile.TemporaryDirectory(prefix=".build-", dir=folder) as scratch:
        path = Path(scratch) / name
        write(path)
        with path.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(path, folder / name)
