"""Times the engines of one subject for one batch size and one number of threads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from crespr_onnx.targets.check import time_artefacts

TURN_SECONDS = 0.02
VISITS = 3
"""How many processes every engine gets in turn where engines must not share one."""
ONE_PROCESS = (
    "turns of 20 ms or 3 calls, the engines taking turns in one process; median and quartiles over "
    "turns"
)
OWN_PROCESSES = (
    "turns of 20 ms or 3 calls; waiting threads of one engine would slow down another, so that "
    f"every engine runs alone, in {VISITS} processes, the engines taking turns between processes; "
    "median and quartiles over turns"
)


@dataclass(frozen=True, eq=False)
class Engine:
    """A model in what runs it.

    Attributes:
        model: name of the model.
        runs: an ONNX file for ONNX Runtime, or the folder of an artefact for TVM.
        engine: which of them.
    """

    model: str
    runs: Path
    engine: Literal["onnxruntime", "tvm"]


@dataclass(frozen=True)
class Timing:
    """Milliseconds per call over turns."""

    median_ms: float
    q1_ms: float
    q3_ms: float
    turns: int
    method: str


def time_engines(
    engines: Sequence[Engine],
    inputs: Mapping[str, NDArray[Any]],
    threads: int,
    repeats: int,
    turn_seconds: float = TURN_SECONDS,
) -> list[Timing]:
    """Times engines on the same inputs.

    Args:
        engines: what to time.
        inputs: one batch, by name.
        threads: threads for each engine.
        repeats: turns of each engine; with several threads rounded up to a multiple of `VISITS`.
        turn_seconds: how long a turn lasts; three calls if those take longer.

    Returns:
        A timing for each of `engines`, in their order.

    Raises:
        CompileError: an engine did not run, crashed or hung.
    """
    samples: list[list[float]] = [[] for _ in engines]
    if threads == 1:
        turns = _turns(dict(enumerate(engines)), inputs, threads, repeats, turn_seconds)
        for index, values in turns.items():
            samples[index] += values
        return [timing_of(values, ONE_PROCESS) for values in samples]
    visits = min(VISITS, repeats)
    for visit in range(visits):
        # Everyone comes first as often as last.
        order = list(enumerate(engines))[:: 1 if visit % 2 == 0 else -1]
        for index, engine in order:
            rounds = ceil(repeats / visits)
            turns = _turns({index: engine}, inputs, threads, rounds, turn_seconds)
            samples[index] += turns[index]
    return [timing_of(values, OWN_PROCESSES) for values in samples]


def _turns(
    engines: Mapping[int, Engine],
    inputs: Mapping[str, NDArray[Any]],
    threads: int,
    rounds: int,
    turn_seconds: float,
) -> dict[int, list[float]]:
    models = {str(i): e.runs for i, e in engines.items() if e.engine == "onnxruntime"}
    artefacts = {str(i): e.runs for i, e in engines.items() if e.engine == "tvm"}
    turns = time_artefacts(artefacts, models, inputs, threads, rounds, turn_seconds)
    return {int(name): values for name, values in turns.items()}


def timing_of(turns: list[float], method: str) -> Timing:
    """Median and quartiles of what turns took."""
    q1, median, q3 = (float(q) for q in np.percentile(turns, (25, 50, 75)))
    return Timing(median, q1, q3, len(turns), method)
