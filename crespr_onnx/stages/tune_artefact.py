"""Replaces the kernels of a compiled model by those that were measured to be faster."""

import os
import tempfile
from dataclasses import asdict, replace
from math import inf
from pathlib import Path

from crespr_onnx.cache_folder import cache_folder
from crespr_onnx.graph.random_inputs import input_shapes_for
from crespr_onnx.progress import Listener, Progress
from crespr_onnx.settings import CompressSettings
from crespr_onnx.stages.deliver import Arrays, check_artefact
from crespr_onnx.stages.prepare import Prepared
from crespr_onnx.targets import find_target
from crespr_onnx.targets.artefact import Artefact
from crespr_onnx.targets.check import time_artefacts
from crespr_onnx.targets.compile import compile_model
from crespr_onnx.targets.remote import Board, find_board, time_remote
from crespr_onnx.targets.tuning.records import Record, append_records
from crespr_onnx.targets.tuning.request import Tuned, Tuning, find_tuning
from crespr_onnx.targets.tuning.search import search
from crespr_onnx.tuning_record import TuningRecord

ROUNDS = 151
ROUND_S = 0.002
"""Short turns, of which the least counts: what else the machine does can only add to them."""


def tuning_of(settings: CompressSettings) -> Tuning | None:
    """How a run tunes, or None if it does not.

    Raises:
        UsageError: what is asked for cannot be tuned, or not here.
    """
    target = find_target(settings.target)
    return find_tuning(
        settings.tune,
        settings.tuning_records,
        cache_folder() / "tuning.jsonl",
        settings.seed,
        target,
        find_board(settings.rpc, target),
    )


def tune_artefact(
    artefact: Artefact,
    model: Path,
    tolerance: float,
    prepared: Prepared,
    settings: CompressSettings,
    sample: Arrays,
    tuning: Tuning,
    listener: Listener,
) -> tuple[Artefact, TuningRecord]:
    """Tunes what was compiled; its files are replaced if the whole has become faster.

    Args:
        artefact: compiled with our own schedules.
        model: the file that it was compiled from.
        tolerance: share of an output's largest value by which the artefact may differ.
        prepared: the dense model.
        settings: target and shapes.
        sample: a batch of one to compare and to time on.
        tuning: how to tune.
        listener: told about progress.

    Returns:
        The artefact to deliver, and what to report.

    Raises:
        CompileError, VerificationError: the board does not answer, the records cannot be written,
            or what was compiled does not run, or computes something else.
    """
    shapes = input_shapes_for(prepared.loaded.signature, 1, settings.input_shapes or None)

    def tell(done: float, detail: str) -> None:
        listener(Progress("tuning kernels", done, detail))

    listener(Progress("tuning kernels"))
    tuned = search(model, artefact.target, shapes, 1, tuning, tell)
    listener(Progress("tuning kernels", 1.0, f"{tuned.measured} candidates measured"))
    used, ratio = False, tuned.ratio
    if tuned.changes:
        with tempfile.TemporaryDirectory(prefix=".build-", dir=artefact.folder) as scratch:
            other = compile_model(
                model, Path(scratch), artefact.target, shapes, records=tuning.records
            )
            if tuning.board is not None or artefact.place.ran == "here":
                check_artefact(other.folder, model, sample, tolerance, tuning.board)
            if ratio is None and tuning.trials:
                ratio = _compare(artefact.folder, other.folder, sample, tuning.board)
                _record(tuning, tuned, ratio)
            used = ratio is None or ratio < 1.0
            if used:
                for file in other.files:
                    os.replace(other.folder / file, artefact.folder / file)
                seconds = artefact.seconds + other.seconds
                artefact = replace(artefact, files=other.files, seconds=seconds)
    report = TuningRecord(
        tuning.trials, tuned.measured, str(tuning.records), used, ratio, tuned.kernels
    )
    return artefact, report


def _compare(untuned: Path, tuned: Path, sample: Arrays, board: Board | None) -> float:
    """Time of a tuned artefact over that of the untuned one."""
    folders = {"untuned": untuned, "tuned": tuned}
    least = dict.fromkeys(folders, inf)
    # What comes out slower although each of its kernels is faster gets a second chance.
    for _ in range(2):
        if board is None:
            turns = time_artefacts(folders, {}, sample, 1, ROUNDS, ROUND_S)
        else:
            turns = time_remote(board, folders, sample, 1, ROUNDS, ROUND_S)
        least = {name: min(least[name], *turns[name]) for name in folders}
        if least["tuned"] < least["untuned"]:
            break
    return least["tuned"] / least["untuned"]


def _record(tuning: Tuning, tuned: Tuned, ratio: float) -> None:
    """Keep for later runs what the comparison of the whole showed."""
    rows = [asdict(kernel) for kernel in tuned.kernels]
    record = Record(tuned.model, tuning.trials, round(ratio, 4), kernels=rows)
    append_records(tuning.records, tuned.target, [record])
