"""Linking what TVM compiled to a library."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from crespr_onnx.errors import CompileError
from crespr_onnx.targets.system import System, compiler, is_here

TIMEOUT_S = 300.0


def link_library(path: Path, objects: Sequence[str], system: System | None) -> None:
    """Link objects to a shared library for a system; None is this machine.

    For another system nothing of its C library is needed here: what the objects call of it is
    found when TVM's runtime, which has loaded it, loads the library.

    Raises:
        CompileError: there is no linker, or it failed.
    """
    bare = [] if is_here(system) else ["-nostdlib"]
    run_compiler([*compiler(system), "-shared", "-fPIC", *bare, "-o", str(path), *objects])


def run_compiler(command: Sequence[str], folder: Path | None = None) -> None:
    """Run a compiler or linker, in a folder.

    Raises:
        CompileError: it failed or hung; its last line is quoted.
    """
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=TIMEOUT_S, cwd=folder,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise CompileError(f"{command[0]} did not end within {TIMEOUT_S:g} s") from error
    if done.returncode:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        signs = ("error", "cannot", "undefined")
        wrong = [line for line in said if any(sign in line for sign in signs)]
        wrong += said or ["it said nothing"]
        raise CompileError(f"linking the artefact failed: {wrong[0][:200]}")
