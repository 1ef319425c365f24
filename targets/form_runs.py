"""Compiles models in memory and lets them take turns.

Imports TVM: only processes of `worker` import this module.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import relax

from crespr_onnx.errors import CompileError
from crespr_onnx.graph.latency import time_calls
from crespr_onnx.targets.brief import brief
from crespr_onnx.targets.build import build_library, cpu_options
from crespr_onnx.targets.rpc_run import take_turns as take_turns_there
from crespr_onnx.targets.rpc_session import open_session
from crespr_onnx.targets.run import MANIFEST
from crespr_onnx.targets.schedule.pipeline import schedule_module
from crespr_onnx.targets.target import Target
from crespr_onnx.targets.tvm_import import import_onnx

log = logging.getLogger(__name__)


def run_forms(
    entries: Sequence[Mapping[str, Any]], target: Target, threads: int, rounds: int
) -> list[dict[str, list[float]]]:
    """See `time_forms.time_compiled`."""
    found = []
    for entry in entries:
        shapes = {name: tuple(shape) for name, shape in entry["shapes"].items()}
        calls = {}
        for name, path in entry["models"].items():
            try:
                calls[name] = _call(Path(path), shapes, target, threads)
            except CompileError as error:
                log.info("%s is not timed: %s", name, error)
        # Call by call, not turn by turn: most calls of a layer are over before another process
        # interrupts, even on a busy machine.
        timed = time_calls(calls, rounds=rounds, turn_seconds=entry["round_seconds"])
        found.append({name: [latency.median_ms] for name, latency in timed.items()})
    return found


def run_forms_there(
    folder: Path, job: Mapping[str, Any], target: Target
) -> list[dict[str, list[float]]]:
    """The same on another machine; all is compiled before the session begins.

    Args:
        folder: that of the job, for what is compiled and for errors.
        job: with ``board``, ``connect_s`` and ``session_s`` besides.
        target: what to compile for.
    """
    built = []
    for i, entry in enumerate(job["entries"]):
        shapes = {name: tuple(shape) for name, shape in entry["shapes"].items()}
        folders: dict[str, str] = {}
        for name, path in entry["models"].items():
            place = folder / f"{i}-{name}"
            place.mkdir()
            try:
                build_library(Path(path), place, shapes, target, job["threads"])
                folders[name] = str(place)
            except CompileError as error:
                log.info("%s is not timed: %s", name, error)
        built.append(folders)
    found = []
    with open_session(folder, dict(job), "time forms of the model") as session:
        for entry, folders in zip(job["entries"], built, strict=True):
            inputs = _inputs(folders)
            turn = entry["round_seconds"]
            found.append(
                take_turns_there(session, folders, inputs, job["threads"], job["rounds"], turn)
            )
    return found


def _inputs(folders: Mapping[str, str]) -> dict[str, NDArray[Any]]:
    """Random inputs of what is compiled in these folders, which is the same for all of them."""
    for folder in folders.values():
        manifest = json.loads((Path(folder) / MANIFEST).read_text(encoding="utf-8"))
        return {spec["name"]: _drawn(spec["shape"], spec["dtype"]) for spec in manifest["inputs"]}
    return {}


def _drawn(shape: Sequence[int], dtype: str) -> NDArray[Any]:
    array = np.random.default_rng(0).standard_normal(shape)
    return array.astype(dtype) if "float" in dtype else np.zeros(shape, dtype)


def _call(
    path: Path, shapes: Mapping[str, tuple[int, ...]], target: Target, threads: int
) -> Callable[[], object]:
    """A model as a function that runs it on inputs that are in place."""
    module = import_onnx(path, shapes)
    arguments = [
        tvm.runtime.tensor(_drawn([int(dim) for dim in param.ty.shape], str(param.ty.dtype)))
        for param in module["main"].params
    ]
    options = tvm.target.Target(cpu_options(target, threads))
    try:
        executable = tvm.compile(schedule_module(module, options, threads), target=options)
    except Exception as error:
        raise CompileError(brief(error)) from error
    machine = relax.VirtualMachine(executable, tvm.cpu())
    main = machine["main"]
    return lambda: main(*arguments)
