"""The stand on which kernels are timed: builds them, calls them, and watches what they compute.

Imports TVM: only processes of `worker` import this module.
"""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray

log = logging.getLogger(__name__)

ROUNDS = 9
"""Turns of every kernel; as many again of those that may win."""
TURN_S = 1e-3
"""Roughly how long a turn lasts: shorter than the time that another process takes the core for."""
FINALISTS = 3
HOPELESS = 2.0
"""Kernels that take so many times the reference's time at first get no turns."""
TOLERANCE = 1e-3
"""Largest difference from what the reference computes, as a share of its largest value."""

_BLANK = 77
"""Nothing that a kernel would compute everywhere."""

Group = Mapping[str, Any]
Clock = Callable[[str, int], float]
"""Seconds per call of a kernel, by symbol, over so many calls."""


def build(path: Path, target: Mapping[str, Any]) -> tuple[tvm.runtime.Module, set[str]]:
    """A module of all kernels in a file that can be compiled, and their symbols."""
    loaded = tvm.ir.load_json(path.read_text(encoding="utf-8")).functions_items()
    every = {variable.name_hint: function for variable, function in loaded}
    whole = tvm.target.Target(dict(target))
    try:
        return _compiled(every, whole), set(every)
    except Exception as error:
        log.debug("compiling one by one: %s", error)
    sound = {}
    for name, function in every.items():
        try:
            _compiled({name: function}, whole)
        except Exception as error:
            log.debug("%s: %s", name, error)
        else:
            sound[name] = function
    return _compiled(sound, whole), set(sound)


def _compiled(
    functions: Mapping[str, tvm.tirx.PrimFunc], target: tvm.target.Target
) -> tvm.runtime.Module:
    return tvm.tirx.build(tvm.IRModule(dict(functions)), target=target)


def hold_all(
    groups: Sequence[Group],
    module: tvm.runtime.Module,
    symbols: Collection[str],
    device: tvm.runtime.Device,
    inputs: Mapping[str, NDArray[Any]],
) -> list[dict[str, float]]:
    """Microseconds per call, the least of all turns, by name; "" is the reference.

    Args:
        groups: kernels that compute the same, the reference first.
        module: holds those that could be compiled.
        symbols: which ones these are.
        device: that they run on.
        inputs: values that arguments ask for.
    """
    return [_hold(group, module, symbols, device, inputs) for group in groups]


def _hold(
    group: Group,
    module: tvm.runtime.Module,
    symbols: Collection[str],
    device: tvm.runtime.Device,
    inputs: Mapping[str, NDArray[Any]],
) -> dict[str, float]:
    rng = np.random.default_rng(0)
    arguments: dict[str, list[Any]] = {}
    names: dict[str, str] = {}
    arrays: list[Any] = []
    expected: NDArray[Any] | None = None
    for kernel in group["kernels"]:
        symbol = kernel["symbol"]
        if symbol not in symbols:
            continue
        if not (group["same_arguments"] and arrays):
            made = [_array(spec, inputs, rng) for spec in kernel["arguments"]]
            arrays = [tvm.runtime.tensor(array, device) for array in made]
            blank = np.full_like(made[-1], _BLANK)
        arrays[-1].copyfrom(blank)
        module[symbol](*arrays)
        if group["same_arguments"]:
            result = arrays[-1].numpy()
            if expected is None:
                expected = result
            elif not _close(result, expected):
                log.warning("a candidate computes something else, and is left out")
                continue
        arguments[symbol], names[symbol] = arrays, kernel["name"]

    def clock(symbol: str, calls: int) -> float:
        evaluator = module.time_evaluator(symbol, device, number=calls, repeat=1)
        return float(evaluator(*arguments[symbol]).mean)

    reference = group["kernels"][0]["symbol"]
    if reference not in names:
        return {}
    times = take_turns(list(names), clock, reference)
    return {names[symbol]: 1e6 * seconds for symbol, seconds in times.items()}


def take_turns(symbols: Sequence[str], clock: Clock, reference: str) -> dict[str, float]:
    """Seconds per call of each kernel, the least of its turns.

    The least, since whatever else the machine does can only add to it. What is hopeless after a
    first look has no more turns; the fastest few and the reference have twice as many.
    """
    least = {symbol: min(clock(symbol, 3) for _ in range(3)) for symbol in symbols}
    calls = {s: max(3, ceil(TURN_S / max(seconds, 1e-8))) for s, seconds in least.items()}
    rest = [s for s in symbols if least[s] <= HOPELESS * least[reference]]
    for _ in range(2):
        for _ in range(ROUNDS):
            for symbol in rest:
                least[symbol] = min(least[symbol], clock(symbol, calls[symbol]))
        finalists = sorted(rest, key=least.__getitem__)[:FINALISTS]
        rest = list(dict.fromkeys([reference, *finalists]))
    return least


def _array(
    spec: Mapping[str, Any], inputs: Mapping[str, NDArray[Any]], rng: np.random.Generator
) -> NDArray[Any]:
    if "values" in spec:
        return np.ascontiguousarray(inputs[spec["values"]])
    if spec["dtype"].startswith("float"):
        array: NDArray[Any] = rng.normal(size=spec["shape"]).astype(spec["dtype"])
        return array
    # Whatever it is a position in has one of these.
    return np.zeros(spec["shape"], spec["dtype"])


def _close(result: NDArray[Any], expected: NDArray[Any]) -> bool:
    if not np.issubdtype(expected.dtype, np.floating):
        return bool(np.array_equal(result, expected))
    scale = max(float(np.abs(expected).max(initial=0.0)), 1e-12)
    return bool(np.abs(result - expected).max(initial=0.0) <= TOLERANCE * scale)
