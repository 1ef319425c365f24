"""Running and timing a compiled model, in a process of its own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from crespr_onnx.targets.process import Arrays, call_worker


def run_artefact(
    folder: Path, inputs: Arrays, threads: int = 1, timeout: float = 120.0
) -> dict[str, NDArray[Any]]:
    """Outputs of a compiled model by name.

    Raises:
        CompileError: the inputs are not the model's, or the artefact crashed or hung.
    """
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

    All of them take turns in one process, so that whatever else the machine does hits all alike;
    inputs and outputs are in place on either side. With more than one thread the spinning pools
    of two engines disturb each other: only ratios at one thread mean anything.

    Args:
        folder: the artefact.
        models: ONNX files by the name to report them under.
        inputs: one batch, of the shapes that the artefact was compiled for.
        threads: threads for either engine.
        rounds: how many times each takes its turn; the median is over these.
        round_seconds: roughly how long one turn lasts.
        timeout: seconds after which timing is given up.

    Returns:
        Milliseconds per run: one entry for each of `models`, and ``compressed_tvm``.

    Raises:
        CompileError: something did not run, crashed or hung.
    """
    job = {
        "job": "time",
        "folder": str(folder.resolve()),
        "models": {name: str(path.resolve()) for name, path in models.items()},
        "threads": threads,
        "rounds": rounds,
        "round_seconds": round_seconds,
    }
    result, _ = call_worker(job, threads, timeout, inputs)
    return {name: float(value) for name, value in result["milliseconds"].items()}
