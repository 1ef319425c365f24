"""Running an artefact for another system here, under emulation."""

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crespr_onnx.errors import CompileError
from crespr_onnx.targets.board_runtime import find_runtime, runtime_folder
from crespr_onnx.targets.link import run_compiler
from crespr_onnx.targets.process import Arrays, signal_name
from crespr_onnx.targets.system import System, compiler, emulator

RUNNERS = Path(__file__).with_name("runners")


def run_emulated(
    folder: Path, manifest: Mapping[str, Any], system: System, inputs: Arrays, timeout: float
) -> dict[str, NDArray[Any]]:
    """Outputs of an artefact by name, computed by a runner under an emulator.

    Args:
        folder: the artefact.
        manifest: the content of its ``artefact.json``.
        system: what it was compiled for.
        inputs: arrays by name.
        timeout: seconds after which it is stopped.

    Raises:
        CompileError: the runner cannot be built, or it failed, crashed or hung.
    """
    with tempfile.TemporaryDirectory(prefix="crespr-onnx-") as name:
        scratch = Path(name)
        library = (folder / manifest["library"]).resolve()
        if library.suffix == ".a":
            command = [str(build_program(scratch, system, library))]
        else:
            kept = kept_runner(system)
            runner = kept if kept.is_file() else build_runner(scratch, system)
            command = [str(runner), str(library)]
        files = []
        for i, spec in enumerate(manifest["inputs"]):
            files.append(str(scratch / f"in{i}.npy"))
            np.save(files[-1], np.ascontiguousarray(inputs[spec["name"]]))
        run_program([*command, *files, "-o", f"{name}/out"], system, timeout)
        return {
            spec["name"]: np.load(scratch / f"out{i}.npy")
            for i, spec in enumerate(manifest["outputs"])
        }


def kept_runner(system: System) -> Path:
    """Where the runner of these sources lies once `keep_runner` has been called."""
    sources = b"".join((RUNNERS / name).read_bytes() for name in ("run.cc", "npy.h"))
    return runtime_folder(system) / f"run-{hashlib.sha256(sources).hexdigest()[:16]}"


def keep_runner(system: System) -> Path:
    """Build the runner beside TVM's runtime in the user's cache, unless it is there.

    Raises:
        CompileError: the runtime or a compiler is missing, or the compiler failed.
    """
    kept = kept_runner(system)
    if not kept.is_file():
        with tempfile.TemporaryDirectory(prefix=".build-", dir=kept.parent) as scratch:
            os.replace(build_runner(Path(scratch), system), kept)
    return kept


def build_runner(folder: Path, system: System) -> Path:
    """Build the C++ runner for a system, beside the runtime that it needs.

    Raises:
        CompileError: the runtime or a compiler is missing, or the compiler failed.
    """
    runtime = find_runtime(system)
    if not runtime:
        raise CompileError(f"TVM's runtime for {system.machine} is not here")
    runner = folder / "run"
    libraries = next(iter(runtime.values())).parent
    run_compiler(
        [
            *compiler(system, program=True, cxx=True), "-std=c++17", "-O1",
            *(f"-I{path}" for path in tvm_ffi_headers()), str(RUNNERS / "run.cc"), "-o",
            str(runner), f"-L{libraries}", "-Wl,--no-as-needed", "-ltvm_runtime", "-ltvm_ffi",
            "-ldl", f"-Wl,-rpath,{libraries}",
        ]
    )  # fmt: skip
    return runner


def build_program(folder: Path, system: System, library: Path) -> Path:
    """Build the C runner for a system, with a model linked in.

    Raises:
        CompileError: a compiler is missing, or it failed.
    """
    program = folder / "run"
    command = [*compiler(system, program=True), "-O1", "-std=c11", str(RUNNERS / "run.c")]
    run_compiler([*command, str(library), "-lm", "-o", str(program)])
    return program


def tvm_ffi_headers() -> Sequence[Path]:
    """The folders of the headers of the package apache-tvm-ffi, without importing it."""
    found = find_spec("tvm_ffi")
    if found is None or not found.submodule_search_locations:
        raise CompileError("the Python package apache-tvm-ffi is not installed")
    include = Path(found.submodule_search_locations[0]) / "include"
    return [include]


def run_program(command: Sequence[str], system: System, timeout: float) -> str:
    """What a program for another system prints.

    Raises:
        CompileError: there is no emulator, or the program failed, crashed or hung.
    """
    program = emulator(system)
    if program is None:
        raise CompileError(f"there is no {system.emulators[0]} here")
    try:
        done = subprocess.run(
            [str(program), "-L", str(system.sysroot), *command],
            env={**os.environ, "TVM_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=timeout,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise CompileError(
            f"the artefact did not end within {timeout:g} s under {program.name}"
        ) from error
    if done.returncode:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        reason = said[0] if said else f"it ended with exit code {done.returncode}"
        if done.returncode < 0 or done.returncode > 128:
            number = -done.returncode if done.returncode < 0 else done.returncode - 128
            reason = f"it died of {signal_name(number)}"
        raise CompileError(f"the artefact does not run under {program.name}: {reason[:200]}")
    return done.stdout
