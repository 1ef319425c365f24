"""Starting a `worker` and getting its answer, or a clear error if it dies."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crespr_onnx.errors import CompileError

Arrays = Mapping[str, NDArray[Any]]
WORK = {
    "time_forms": "time the forms of the model",
    "probe": "probe the machine",
    "rpc_greet": "connect to the device",
    "rpc_run": "run the artefact on the device",
    "rpc_time": "time the artefact on the device",
    "tune": "tune the kernels",
    "contest": "time kernels",
    "rpc_contest": "time kernels on the device",
    "rpc_time_forms": "time the forms of the model on the device",
}
"""What jobs do, other than something to the artefact here."""


WATCH_S = 0.3
"""How often a job is watched."""


def call_worker(
    job: dict[str, Any],
    threads: int,
    timeout: float,
    inputs: Arrays | None = None,
    watch: Callable[[Path], None] | None = None,
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Have a job done in a fresh process.

    Args:
        job: what to do, by the names in `worker.JOBS`.
        threads: number of threads that TVM and ONNX Runtime may use there.
        timeout: seconds after which the process is killed.
        inputs: arrays by name.
        watch: called now and then, while the job goes on, with its folder.

    Returns:
        The job's answer, and arrays by name.

    Raises:
        CompileError: the job failed, the process died of a signal, or it took too long.
    """
    # What a process that was killed had been writing may still appear.
    with tempfile.TemporaryDirectory(prefix="crespr-onnx-", ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        if inputs is not None:
            np.savez(folder / "inputs.npz", *inputs.values())
            job = {**job, "inputs": list(inputs)}
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        _run(folder, job["job"], threads, timeout, watch)
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        if "error" in result:
            raise CompileError(result["error"])
        outputs: dict[str, NDArray[Any]] = {}
        if "outputs" in result:
            with np.load(folder / "outputs.npz", allow_pickle=False) as stored:
                outputs = {name: stored[f"arr_{i}"] for i, name in enumerate(result["outputs"])}
        return result, outputs


def _run(
    folder: Path, job: str, threads: int, timeout: float, watch: Callable[[Path], None] | None
) -> None:
    what = f"the process that was to {WORK.get(job, f'{job} the artefact')}"
    command = [sys.executable, "-m", "crespr_onnx.targets.worker", str(folder)]
    count = str(threads)
    pools = ("TVM_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    # Its own temporary files lie in its folder, which is removed whatever happens to it.
    environment = {**os.environ, **dict.fromkeys(pools, count), "TMPDIR": str(folder)}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, errors="replace",
    ) as process:  # fmt: skip
        try:
            stderr = _wait(process, timeout, None if watch is None else partial(watch, folder))
        except subprocess.TimeoutExpired as error:
            process.kill()
            late = f"{what} did not end within {timeout:g} s and was stopped"
            raise CompileError(late) from error
        except BaseException:
            process.kill()
            raise
    if process.returncode < 0:
        raise CompileError(
            f"{what} died of {signal_name(-process.returncode)}: TVM crashed; use --target onnx, "
            "and please report the model"
        )
    if process.returncode > 0:
        said = [line.strip() for line in stderr.splitlines() if line.strip()]
        raise CompileError(f"{what} failed: {(said or ['it said nothing'])[-1][:200]}")


def _wait(process: subprocess.Popen[str], timeout: float, watch: Callable[[], None] | None) -> str:
    """What a process wrote to stderr until it ended.

    Raises:
        subprocess.TimeoutExpired: it did not end in time.
    """
    deadline = time.monotonic() + timeout
    while True:
        left = deadline - time.monotonic()
        try:
            return process.communicate(timeout=left if watch is None else min(left, WATCH_S))[1]
        except subprocess.TimeoutExpired:
            if watch is None or time.monotonic() >= deadline:
                raise
            watch()


def signal_name(number: int) -> str:
    """``SIGSEGV`` for 11."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
