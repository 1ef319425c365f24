"""What tuning is asked for, and what it answers, as plain data."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crespr_onnx.errors import UsageError
from crespr_onnx.targets.remote import Board
from crespr_onnx.targets.system import is_here
from crespr_onnx.targets.target import Target
from crespr_onnx.targets.tuning.records import read_records
from crespr_onnx.tuning_record import KernelRecord

PROGRESS = "progress.json"
"""File in which a search tells how far it is."""
LIMIT_S = 3600.0
"""After so long no new kernel is begun."""


@dataclass(frozen=True)
class Tuning:
    """How to tune.

    Attributes:
        trials: candidates to measure per kernel; with 0 what the records hold is used as it is.
        records: file of records, read and added to.
        seed: of the search.
        board: the machine to measure on, or None for this one.
        limit_s: seconds after which no new kernel is begun.
    """

    trials: int
    records: Path
    seed: int = 0
    board: Board | None = None
    limit_s: float = LIMIT_S


@dataclass(frozen=True)
class Tuned:
    """What a search found.

    Attributes:
        model: hash of all kernels of the model, under which the whole is recorded.
        target: of TVM, with the CPU that it is for.
        kernels: those that take time enough to be worth tuning, the slowest first.
        measured: candidates that were measured in this run.
        changes: whether any kernel is to be replaced.
        ratio: time of the whole tuned model over the untuned one's, if it is on record.
    """

    model: str
    target: Mapping[str, Any]
    kernels: tuple[KernelRecord, ...]
    measured: int
    changes: bool
    ratio: float | None = None


def find_tuning(
    trials: int, records: str | None, default: Path, seed: int, target: Target, board: Board | None
) -> Tuning | None:
    """How to tune, or None if nothing is to be tuned.

    Args:
        trials: candidates per kernel.
        records: file of records, if one is given.
        default: the file otherwise.
        seed: of the search.
        target: what is compiled for.
        board: where it is measured, None for here.

    Raises:
        UsageError: kernels for the target cannot be tuned, or not here; or the file holds
            something else.
    """
    if not trials and records is None:
        return None
    option = "--tune" if trials else "--tuning-records"
    if not target.compiles:
        raise UsageError(
            f"{option} tunes what is compiled, and for target {target.name!r} nothing is; use "
            "--target cpu, or arm64 with --rpc"
        )
    if target.library != "model.so" or target.tvm.get("kind") != "llvm":
        raise UsageError(
            f"{option} tunes kernels for CPUs in TVM's runtime, and target {target.name!r} is none "
            "of these; use --target cpu, or arm64 with --rpc"
        )
    if trials and board is None and not is_here(target.system):
        raise UsageError(
            f"--tune measures kernels, and those for {target.name!r} do not run here; give "
            "--rpc HOST:PORT of such a board, or records of one with --tuning-records"
        )
    if not trials and records is not None and not Path(records).is_file():
        raise UsageError(f"{records}: no such file; --tune N writes one")
    path = default if records is None else Path(records)
    read_records(path, {})
    return Tuning(trials, path, seed, board)
