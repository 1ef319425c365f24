"""Times models side by side in one process, so that they can be compared."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from crespr_onnx.graph.session import AnyModel, Arrays, make_session, run

METHOD = "median per call, engines taking turns in one process"


@dataclass(frozen=True)
class Latency:
    """Milliseconds per call.

    Attributes:
        median_ms: median over all timed calls.
        p10_ms: 10th percentile.
        p90_ms: 90th percentile.
        calls: how many calls were timed.
    """

    median_ms: float
    p10_ms: float
    p90_ms: float
    calls: int


def time_models(
    models: Mapping[str, AnyModel],
    inputs: Arrays,
    *,
    threads: int = 1,
    rounds: int = 20,
    turn_seconds: float = 0.02,
    max_seconds: float = 20.0,
) -> dict[str, Latency]:
    """Times models on the same inputs in ONNX Runtime; see `time_calls`.

    Raises:
        ModelError: if a model cannot be loaded or run.
    """
    feed = dict(inputs)
    calls: dict[str, Callable[[], object]] = {}
    for name, model in models.items():
        session = make_session(model, threads=threads)
        run(session, feed)  # tells what is wrong with a model or its inputs
        calls[name] = partial(session.run, None, feed)
    return time_calls(calls, rounds=rounds, turn_seconds=turn_seconds, max_seconds=max_seconds)


def time_calls(
    calls: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 20,
    turn_seconds: float = 0.02,
    max_seconds: float = 20.0,
) -> dict[str, Latency]:
    """Times functions that take turns, so that a busy moment of the machine meets all of them.

    Args:
        calls: what to time, by name.
        rounds: how often each gets a turn. The first round warms up and is not counted.
        turn_seconds: how long a turn lasts; a single call if that takes longer. The first call of a
            turn, on caches that the others filled, is not counted unless it is the only one.
        max_seconds: start no further round after this time; one round is always counted.
    """
    samples: dict[str, list[float]] = {name: [] for name in calls}
    start = time.perf_counter()
    names = list(calls)
    for name in names:
        _turn(calls[name], turn_seconds)
    for number in range(rounds):
        if number and time.perf_counter() - start > max_seconds:
            break
        # Everyone comes first as often as last.
        for name in names if number % 2 == 0 else reversed(names):
            samples[name] += _turn(calls[name], turn_seconds)
    return {name: _latency(values) for name, values in samples.items()}


def _turn(call: Callable[[], object], seconds: float) -> list[float]:
    times: list[float] = []
    start = before = time.perf_counter()
    while not times or before - start < seconds:
        call()
        after = time.perf_counter()
        times.append(after - before)
        before = after
    return times[1:] or times


def _latency(seconds: list[float]) -> Latency:
    p10, median, p90 = (1e3 * float(q) for q in np.percentile(seconds, (10, 50, 90)))
    return Latency(median_ms=median, p10_ms=p10, p90_ms=p90, calls=len(seconds))
