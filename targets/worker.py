"""``python -m crespr_onnx.targets.worker JOB_FOLDER``: one job with TVM, in a process of its own.

TVM can crash, and it holds threads and memory; the process that compresses must survive that.
The folder holds ``job.json`` and, for some jobs, ``inputs.npz``; the answer goes into
``result.json`` and ``outputs.npz``. `process` is the other side.
"""

import ctypes
import json
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np

from crespr_onnx.errors import CresprError

# tvm_ffi imports PyTorch when it finds it, which takes seconds and serves no purpose here.
sys.modules["torch"] = None  # type: ignore[assignment]


def compile_job(folder: Path, job: dict[str, Any]) -> dict[str, Any]:
    """Build an artefact."""
    from crespr_onnx.targets import find_target
    from crespr_onnx.targets.build import build_library

    shapes = {name: tuple(shape) for name, shape in job["input_shapes"].items()}
    target = find_target(job["target"])
    records = None if job["records"] is None else Path(job["records"])
    files = build_library(
        Path(job["model"]), Path(job["folder"]), shapes, target, job["threads"], records
    )
    return {"files": files}


def tune_job(folder: Path, job: dict[str, Any]) -> dict[str, Any]:
    """Search for faster kernels, and record them."""
    from crespr_onnx.targets.tuning.job import tune

    return tune(folder, job)


def contest_job(folder: Path, job: dict[str, Any]) -> dict[str, Any]:
    """Time kernels here."""
    from crespr_onnx.targets.tuning.job import contest

    return contest(job, read_arrays(folder / "inputs.npz", job["inputs"]))


def rpc_contest_job(folder: Path, job: dict[str, Any]) -> dict[str, Any]:
    """Time kernels on another machine."""
    from crespr_onnx.targets.tuning.job import contest_on_board

    return contest_on_board(folder, job, read_arrays(folder / "inputs.npz", job["inputs"]))


def run_job(folder: Path, job: dict[str, Any]) -> dict[str, Any]:
    """Run an artefact once."""
    from crespr_onnx.targets.run import load_artefact

    outputs = load_artefact(job["folder"])(read_arrays(folder / "inputs.npz", job["inputs"]))
    np.savez(folder / "outputs.npz", *outputs.values())
    return {"outputs": list(outputs)}


def time_job(folder: Path, job: dict[str, Any]) -> dict[str, Any]:
    """Time artefacts and ONNX models side by side."""
    from crespr_onnx.targets.stopwatch import time_side_by_side

    inputs = read_arrays(folder / "inputs.npz", job["inputs"])
    return time_side_by_side(
        job["folders"], job["models"], inputs, job["threads"], job["rounds"], job["round_seconds"]
    )


def time_forms_job(folder: Path, job: dict[str, Any]) -> dict[str, Any]:
    """Time models in several forms, compiled in memory."""
    from crespr_onnx.targets import find_target
    from crespr_onnx.targets.form_runs import run_forms

    target = find_target(job["target"])
    return {"milliseconds": run_forms(job["entries"], target, job["threads"], job["rounds"])}


def rpc_time_forms_job(folder: Path, job: dict[str, Any]) -> dict[str, Any]:
    """The same on another machine."""
    from crespr_onnx.targets import find_target
    from crespr_onnx.targets.form_runs import run_forms_there

    return {"milliseconds": run_forms_there(folder, job, find_target(job["target"]))}


def read_arrays(path: Path, names: list[str]) -> dict[str, np.ndarray[Any, Any]]:
    """Arrays by name; the file numbers them, since a name may be no good as a file's."""
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[f"arr_{i}"] for i, name in enumerate(names)}


def probe_job(folder: Path, job: dict[str, Any]) -> dict[str, Any]:
    """Measure what the machine can do at best."""
    from crespr_onnx.targets.probe import probe_machine

    return probe_machine(job["footprints"], job["threads"])


def rpc_greet_job(folder: Path, job: dict[str, Any]) -> dict[str, Any]:
    """Open a session on another machine."""
    from crespr_onnx.targets.rpc_session import open_session

    with open_session(folder, job, "answer"):
        return {}


def rpc_run_job(folder: Path, job: dict[str, Any]) -> dict[str, Any]:
    """Run an artefact once on another machine."""
    from crespr_onnx.targets.rpc_run import run_once
    from crespr_onnx.targets.rpc_session import open_session

    inputs = read_arrays(folder / "inputs.npz", job["inputs"])
    with open_session(folder, job, "run the artefact") as session:
        outputs = run_once(session, Path(job["folder"]), inputs)
    np.savez(folder / "outputs.npz", *outputs.values())
    return {"outputs": list(outputs)}


def rpc_time_job(folder: Path, job: dict[str, Any]) -> dict[str, Any]:
    """Time artefacts side by side on another machine."""
    from crespr_onnx.targets.rpc_run import take_turns
    from crespr_onnx.targets.rpc_session import open_session

    inputs = read_arrays(folder / "inputs.npz", job["inputs"])
    with open_session(folder, job, "time the artefact") as session:
        return {
            "milliseconds": take_turns(
                session, job["folders"], inputs, job["threads"], job["rounds"], job["round_seconds"]
            )
        }


JOBS = {
    "compile": compile_job,
    "run": run_job,
    "time": time_job,
    "tune": tune_job,
    "contest": contest_job,
    "rpc_contest": rpc_contest_job,
    "time_forms": time_forms_job,
    "probe": probe_job,
    "rpc_greet": rpc_greet_job,
    "rpc_run": rpc_run_job,
    "rpc_time": rpc_time_job,
    "rpc_time_forms": rpc_time_forms_job,
}


def end_with_parent() -> None:
    """Have this process killed when the one that started it is gone, however that ended."""
    if sys.platform == "linux":
        set_death_signal = 1
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)


def main(folder: Path) -> None:
    """Do the job in a folder; errors meant for the user go into its result."""
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    try:
        result = JOBS[job["job"]](folder, job)
    except (CresprError, ValueError) as error:
        result = {"error": str(error)}
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    end_with_parent()
    main(Path(sys.argv[1]))
