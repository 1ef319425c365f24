"""Asking a process of its own to search for faster kernels."""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from crespr_onnx.targets.process import call_worker
from crespr_onnx.targets.target import Target
from crespr_onnx.targets.tuning.request import PROGRESS, Tuned, Tuning
from crespr_onnx.tuning_record import KernelRecord

GRACE_S = 600.0
"""How long the kernel that is tuned when the time is up may still take."""


def search(
    model: Path,
    target: Target,
    input_shapes: Mapping[str, tuple[int, ...]],
    threads: int,
    tuning: Tuning,
    tell: Callable[[float, str], None],
) -> Tuned:
    """Measure candidates for every kernel of a model that takes time, and record the fastest.

    Args:
        model: an ONNX file with its constants folded.
        target: a CPU, this machine's or that of the board.
        input_shapes: shape of every input whose shape the model leaves open.
        threads: that a run may use.
        tuning: how long, where, and with which records.
        tell: told about progress, see `tune.Tell`.

    Raises:
        CompileError: the records cannot be read or written, TVM cannot import the model, nothing
            could be timed, or the board does not answer.
    """
    job: dict[str, Any] = {
        "job": "tune",
        "model": str(model.resolve()),
        "input_shapes": {name: list(shape) for name, shape in input_shapes.items()},
        "target": target.name,
        "threads": threads,
        "trials": tuning.trials,
        "records": str(tuning.records.resolve()),
        "seed": tuning.seed,
        "limit_s": tuning.limit_s,
        "board": None if tuning.board is None else asdict(tuning.board),
    }

    def watch(folder: Path) -> None:
        with suppress(OSError, ValueError):
            said = json.loads((folder / PROGRESS).read_text(encoding="utf-8"))
            tell(float(said["done"]), str(said["detail"]))

    result, _ = call_worker(job, threads, tuning.limit_s + GRACE_S, watch=watch)
    kernels = tuple(KernelRecord(**kernel) for kernel in result["kernels"])
    return Tuned(**{**result, "kernels": kernels})
