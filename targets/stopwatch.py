"""Timing engines against one another, in short turns."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from crespr_onnx.targets.run import load_artefact


def time_side_by_side(
    folders: Mapping[str, str],
    models: Mapping[str, str],
    inputs: Mapping[str, NDArray[Any]],
    threads: int,
    rounds: int,
    round_seconds: float,
) -> dict[str, Any]:
    """See `check.time_artefacts`."""
    engines: dict[str, Callable[[], object]] = {
        name: onnx_runner(path, inputs, threads) for name, path in models.items()
    }
    for name, folder in folders.items():
        compiled = load_artefact(folder)
        compiled.set_inputs(inputs)
        engines[name] = compiled.compute
    return {"milliseconds": take_turns(engines, rounds, round_seconds)}


def onnx_runner(
    path: str, inputs: Mapping[str, NDArray[Any]], threads: int
) -> Callable[[], object]:
    """A call that runs a model in ONNX Runtime on inputs that are in place."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    for value in session.get_inputs():
        binding.bind_cpu_input(value.name, np.ascontiguousarray(inputs[value.name]))
    for value in session.get_outputs():
        binding.bind_output(value.name)
    return lambda: session.run_with_iobinding(binding)


def take_turns(
    engines: Mapping[str, Callable[[], object]], rounds: int, round_seconds: float
) -> dict[str, list[float]]:
    """Milliseconds per call in each turn; the engines take turns of about `round_seconds` each."""
    repeats = {name: _warm_up(call, round_seconds) for name, call in engines.items()}
    samples: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(rounds):
        for name, call in engines.items():
            samples[name].append(1e3 * _mean_seconds(call, repeats[name]))
    return samples


def _warm_up(call: Callable[[], object], seconds: float) -> int:
    """How often to call in one turn; calling for that long also warms caches and clocks."""
    calls, start = 0, time.perf_counter()
    while calls < 3 or time.perf_counter() - start < seconds:
        call()
        calls += 1
    return calls


def _mean_seconds(call: Callable[[], object], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats
