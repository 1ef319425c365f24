"""Starting a `worker` and getting its answer, or a clear error if it dies."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crespr_onnx.errors import CompileError

Arrays = Mapping[str, NDArray[Any]]
WORK = {
    "probe": "probe the machine",
    "rpc_greet": "connect to the device",
    "rpc_run": "run the artefact on the device",
    "rpc_time": "time the artefact on the device",
}
"""What jobs do, other than something to the artefact here."""


def call_worker(
    job: dict[str, Any], threads: int, timeout: float, inputs: Arrays | None = None
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Have a job done in a fresh process.

    Args:
        job: what to do, by the names in `worker.JOBS`.
        threads: number of threads that TVM and ONNX Runtime may use there.
        timeout: seconds after which the process is killed.
        inputs: arrays by name.

    Returns:
        The job's answer, and arrays by name.

    Raises:
        CompileError: the job failed, the process died of a signal, or it took too long.
    """
    with tempfile.TemporaryDirectory(prefix="crespr-onnx-") as scratch:
        folder = Path(scratch)
        if inputs is not None:
            np.savez(folder / "inputs.npz", *inputs.values())
            job = {**job, "inputs": list(inputs)}
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        _run(folder, job["job"], threads, timeout)
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        if "error" in result:
            raise CompileError(result["error"])
        outputs: dict[str, NDArray[Any]] = {}
        if "outputs" in result:
            with np.load(folder / "outputs.npz", allow_pickle=False) as stored:
                outputs = {name: stored[f"arr_{i}"] for i, name in enumerate(result["outputs"])}
        return result, outputs


def _run(folder: Path, job: str, threads: int, timeout: float) -> None:
    what = f"the process that was to {WORK.get(job, f'{job} the artefact')}"
    command = [sys.executable, "-m", "crespr_onnx.targets.worker", str(folder)]
    count = str(threads)
    pools = ("TVM_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(pools, count)}
    try:
        done = subprocess.run(
            command,
            env=environment,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
        )
    except subprocess.TimeoutExpired as error:
        raise CompileError(f"{what} did not end within {timeout:g} s and was stopped") from error
    if done.returncode < 0:
        raise CompileError(
            f"{what} died of {signal_name(-done.returncode)}: TVM crashed; use --target onnx, and "
            "please report the model"
        )
    if done.returncode > 0:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise CompileError(f"{what} failed: {(said or ['it said nothing'])[-1][:200]}")


def signal_name(number: int) -> str:
    """``SIGSEGV`` for 11."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
