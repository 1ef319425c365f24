"""The whole story of `bench`: models in, times against one another and against the floor out."""

import os
import platform
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from crespr_onnx.bench.artefact import artefact_for, dense_artefact
from crespr_onnx.bench.board import time_on_board
from crespr_onnx.bench.floor import Call, Work, find_peaks, floor_of, model_record, peak_record
from crespr_onnx.bench.gate import check_speed
from crespr_onnx.bench.inputs import Arrays, make_inputs, sizes_to_time
from crespr_onnx.bench.record import BenchReport, ModelRecord, Row, SubjectRecord
from crespr_onnx.bench.settings import BenchSettings
from crespr_onnx.bench.subjects import Subject, read_subjects
from crespr_onnx.bench.timing import Engine, Timing, time_engines
from crespr_onnx.errors import CompileError, ModelError, UsageError
from crespr_onnx.graph.session import run
from crespr_onnx.progress import Listener, Progress, silent
from crespr_onnx.targets.check import Peak
from crespr_onnx.targets.remote import greet, parse_board

PACKAGES = ("crespr-onnx", "onnxruntime", "apache-tvm", "numpy")


@dataclass(frozen=True, eq=False)
class _Timed:
    """A timing with what it is of."""

    subject: Subject
    engine: Engine
    batch: int
    threads: int
    timing: Timing
    work: Work
    device: str | None = None


def bench(settings: BenchSettings, listener: Listener = silent, command: str = "") -> BenchReport:
    """Times models side by side.

    Args:
        settings: what to time, and how.
        listener: told about progress.
        command: the command line, for the report.

    Returns:
        The report. Its exit code is not 0 if a model is slower than `min_speedup` asks for.

    Raises:
        UsageError, ModelError, DataError: what was asked for cannot be timed.
        CompileError: an engine crashed.
        VerificationError: an artefact that was compiled anew is wrong.
    """
    settings.check()
    listener(Progress("reading models"))
    subjects = read_subjects(settings)
    notes = [note for subject in subjects for note in subject.notes]
    sizes = {subject.name: sizes_to_time(subject, settings, notes) for subject in subjects}
    _check_gate(subjects, settings)
    _check_board(subjects, settings, listener)
    records = [
        SubjectRecord(s.name, tuple(model_record(c, s) for c in s.contestants)) for s in subjects
    ]
    timed: list[_Timed] = []
    for subject, record in zip(subjects, records, strict=True):
        with tempfile.TemporaryDirectory(prefix="crespr-onnx-") as scratch:
            batches = sizes[subject.name]
            timed += _time(subject, record, batches, settings, Path(scratch), notes, listener)
    listener(Progress("measuring the machine's peak"))
    here = [t for t in timed if t.device is None]
    peaks = find_peaks([Call(t.work, t.threads, t.timing.median_ms) for t in here])
    rows = _rows(timed, peaks)
    failures = (
        [] if settings.min_speedup is None else check_speed(records, rows, settings.min_speedup)
    )
    return BenchReport(
        status="failed" if failures else "ok",
        exit_code=failures[0].exit_code if failures else 0,
        reasons=tuple(map(str, failures)),
        command=command,
        versions={"python": platform.python_version()} | {p: version(p) for p in PACKAGES},
        host={
            "machine": platform.machine(),
            "system": platform.platform(),
            "cpus": os.cpu_count() or 1,
        },
        peaks=tuple(map(peak_record, peaks)),
        subjects=tuple(records),
        rows=tuple(rows),
        notes=tuple(dict.fromkeys(notes)),
    )


def _check_board(subjects: Sequence[Subject], settings: BenchSettings, listener: Listener) -> None:
    if settings.rpc is None:
        return
    if all(subject.target is None for subject in subjects):
        raise UsageError(
            "--rpc times the artefacts of folders that compress wrote; give such a folder"
        )
    board = parse_board(settings.rpc)
    listener(Progress(f"connecting to {board}"))
    greet(board)


def _check_gate(subjects: Sequence[Subject], settings: BenchSettings) -> None:
    if settings.min_speedup is None:
        return
    for subject in subjects:
        if len(subject.contestants) < 2:
            raise UsageError(
                "--min-speedup compares models, and there is only "
                f"{subject.contestants[0].loaded.path}; give what it is compared with as --dense "
                "FILE"
            )
        only = subject.only_batch()
        if only not in (None, 1):
            raise UsageError(
                f"--min-speedup is decided at batch 1, but the batch of {subject.name} is fixed "
                f"to {only}"
            )


def _time(
    subject: Subject,
    record: SubjectRecord,
    batches: Sequence[int],
    settings: BenchSettings,
    scratch: Path,
    notes: list[str],
    listener: Listener,
) -> list[_Timed]:
    """All times of one subject; batches that its graphs turn out not to take are noted."""
    timed: list[_Timed] = []
    for batch in batches:
        inputs = make_inputs(subject, batch, settings.data)
        try:
            works = _works(subject, record.models, inputs, batch)
        except ModelError as error:  # some graphs that declare any batch fix one inside
            if batch == batches[0]:
                raise
            notes.append(f"{subject.name}: batch {batch} is left out: {error}")
            continue
        for threads in settings.thread_counts:
            listener(Progress(f"timing {subject.name}: batch {batch}, {_threads(threads)}"))
            engines = _engines(subject, inputs, threads, scratch, notes, settings)
            timings = time_engines(engines, inputs, threads, settings.repeats)
            timed += [
                _Timed(subject, engine, batch, threads, timing, works[engine.model])
                for engine, timing in zip(engines, timings, strict=True)
            ]
            if settings.rpc is None or subject.target is None or threads not in settings.threads:
                continue
            board = parse_board(settings.rpc)
            listener(Progress(f"timing {subject.name} on {board}: batch {batch}"))
            repeats = settings.repeats
            found = time_on_board(board, subject, inputs, threads, repeats, scratch, notes)
            if not found and settings.min_speedup is not None:
                raise CompileError(notes.pop())  # no gate is passed by what was not measured
            timed += [
                _Timed(subject, engine, batch, threads, timing, works[engine.model], str(board))
                for engine, timing in found
            ]
    return timed


def _works(
    subject: Subject, records: Sequence[ModelRecord], inputs: Arrays, batch: int
) -> dict[str, Work]:
    """What each model has to do per call; running each once also shows that it can."""
    works: dict[str, Work] = {}
    for contestant, record in zip(subject.contestants, records, strict=True):
        outputs = run(contestant.loaded.path, inputs)
        passed = sum(array.nbytes for array in (*inputs.values(), *outputs.values()))
        free = any(spec.dynamic_batch for spec in contestant.loaded.signature.inputs)
        macs = None if record.macs is None else record.macs * (batch if free else 1)
        works[contestant.name] = Work(macs, record.weight_bytes + passed)
    return works


def _engines(
    subject: Subject,
    inputs: Arrays,
    threads: int,
    scratch: Path,
    notes: list[str],
    settings: BenchSettings,
) -> list[Engine]:
    """All that is timed against one another here; what cannot be compiled is noted."""
    names = [contestant.name for contestant in subject.contestants]
    engines = [Engine(c.name, c.loaded.path, "onnxruntime") for c in subject.contestants]
    if settings.rpc is not None:
        return engines
    # The first two contestants of a subject with an artefact are the dense model and the other.
    for contestant, build in zip(subject.contestants, (dense_artefact, artefact_for), strict=False):
        try:
            artefact = build(subject, inputs, threads, scratch)
        except CompileError as error:
            shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in inputs.items())
            notes.append(
                f"{subject.name}: no artefact of {contestant.name} for {shapes}, "
                f"{_threads(threads)}: {error}"
            )
            continue
        if artefact is not None:
            engines.append(Engine(contestant.name, artefact, "tvm"))
    return sorted(engines, key=lambda engine: names.index(engine.model))


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def _rows(timed: Sequence[_Timed], peaks: Sequence[Peak]) -> list[Row]:
    # On another machine there is no ONNX Runtime, and no ratio across machines means anything.
    references = {
        (t.subject.name, t.batch, t.threads, t.device): t.timing.median_ms
        for t in timed
        if t.engine.model == t.subject.contestants[0].name
        and (t.engine.engine == "onnxruntime" or t.device is not None)
    }
    by_threads = {peak.threads: peak for peak in peaks}
    rows: list[Row] = []
    for t in timed:
        floor = None if t.device else floor_of(t.work, by_threads[t.threads])
        median = t.timing.median_ms
        rows.append(
            Row(
                subject=t.subject.name,
                model=t.engine.model,
                engine=t.engine.engine,
                batch=t.batch,
                threads=t.threads,
                median_ms=median,
                q1_ms=t.timing.q1_ms,
                q3_ms=t.timing.q3_ms,
                turns=t.timing.turns,
                speed_up=references[t.subject.name, t.batch, t.threads, t.device] / median,
                floor_ms=None if floor is None else floor.milliseconds,
                bound_by=None if floor is None else floor.bound_by,
                above_floor=None if floor is None else median / floor.milliseconds,
                method=t.timing.method,
                device=t.device,
            )
        )
    return rows
