"""Running and timing a compiled model, in a process of its own, and measuring the machine."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from numpy.typing import NDArray

from crespr_onnx.errors import CompileError
from crespr_onnx.targets import find_target
from crespr_onnx.targets.cuda_gpu import obstacle
from crespr_onnx.targets.emulate import run_emulated
from crespr_onnx.targets.process import Arrays, call_worker
from crespr_onnx.targets.run import MANIFEST, check_inputs
from crespr_onnx.targets.system import is_here


@dataclass(frozen=True)
class Peak:
    """What a machine can do at best with so many threads.

    Attributes:
        threads: how many.
        gflops: 10^9 float32 operations per second, a multiply-accumulate being two.
        gigabytes: 10^9 bytes per second by footprint: the bytes that are read again and again.
    """

    threads: int
    gflops: float
    gigabytes: Mapping[int, float]


def probe_peak(footprints: Sequence[int], threads: int, timeout: float = 120.0) -> Peak:
    """Measures the machine's arithmetic and memory bandwidth; see `probe`.

    Raises:
        CompileError: the process that measures crashed or hung.
    """
    job = {"job": "probe", "footprints": list(footprints), "threads": threads}
    result, _ = call_worker(job, threads, timeout)
    pairs = zip(footprints, result["gigabytes"], strict=True)
    return Peak(threads, result["gflops"], {size: float(value) for size, value in pairs})


def run_artefact(
    folder: Path, inputs: Arrays, threads: int = 1, timeout: float = 120.0
) -> dict[str, NDArray[Any]]:
    """Outputs of a compiled model by name, run here or under emulation.

    Raises:
        CompileError: the inputs are not the model's, or the artefact crashed or hung.
    """
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    target = find_target(manifest.get("name", "cpu"))
    if target.tvm.get("kind") == "cuda" and (reason := obstacle(target.tvm["arch"])):
        raise CompileError(f"the artefact for {target.name} does not run here: {reason}")
    if target.system is not None and not is_here(target.system):
        try:
            check_inputs(manifest["inputs"], inputs)
        except ValueError as error:
            raise CompileError(str(error)) from error
        return run_emulated(folder, manifest, target.system, inputs, timeout)
    job = {"job": "run", "folder": str(folder.resolve())}
    return call_worker(job, threads, timeout, inputs)[1]


def time_artefact(
    folder: Path,
    models: Mapping[str, Path],
    inputs: Arrays,
    threads: int = 1,
    rounds: int = 21,
    round_seconds: float = 0.02,
    timeout: float = 600.0,
) -> dict[str, float]:
    """Median time of one run of a compiled model, and of ONNX models in ONNX Runtime.

    Returns:
        Milliseconds per run: one entry for each of `models`, and ``compressed_tvm``. For the
        rest see `time_artefacts`.
    """
    folders = {"compressed_tvm": folder}
    turns = time_artefacts(folders, models, inputs, threads, rounds, round_seconds, timeout)
    return {name: median(values) for name, values in turns.items()}


def time_artefacts(
    folders: Mapping[str, Path],
    models: Mapping[str, Path],
    inputs: Arrays,
    threads: int = 1,
    rounds: int = 21,
    round_seconds: float = 0.02,
    timeout: float = 600.0,
) -> dict[str, list[float]]:
    """Times of compiled models, and of ONNX models in ONNX Runtime, turn by turn.

    All of them take turns in one process, so that whatever else the machine does hits all alike;
    inputs and outputs are in place on either side. With more than one thread the spinning pools
    of two engines disturb each other: then time one engine per call.

    Args:
        folders: artefacts by the name to report them under.
        models: ONNX files by the name to report them under.
        inputs: one batch, of the shapes that the artefacts were compiled for.
        threads: threads for either engine.
        rounds: how many times each takes its turn.
        round_seconds: roughly how long one turn lasts.
        timeout: seconds after which timing is given up.

    Returns:
        Mean milliseconds per run in each turn, by name.

    Raises:
        CompileError: something did not run, crashed or hung.
    """
    job = {
        "job": "time",
        "folders": {name: str(path.resolve()) for name, path in folders.items()},
        "models": {name: str(path.resolve()) for name, path in models.items()},
        "threads": threads,
        "rounds": rounds,
        "round_seconds": round_seconds,
    }
    result, _ = call_worker(job, threads, timeout, inputs)
    return {name: [float(v) for v in values] for name, values in result["milliseconds"].items()}
