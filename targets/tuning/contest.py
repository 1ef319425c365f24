"""Timing scheduled kernels against each other, in processes that may crash or hang.

Imports TVM: only processes of `worker` import this module.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tvm

from crespr_onnx.errors import CompileError
from crespr_onnx.targets.process import call_worker
from crespr_onnx.targets.remote import CONNECT_S, Board, greet
from crespr_onnx.targets.tuning.kernels import Argument

BUILD_S = 10.0
"""How long compiling one kernel may take; some candidates keep LLVM busy for minutes."""
START_S = 60.0


@dataclass(frozen=True)
class Arena:
    """Where kernels are timed.

    Attributes:
        target: of TVM.
        target_name: the same as crespr-onnx names it.
        threads: that a kernel may use.
        board: another machine, or None for this one.
    """

    target: Mapping[str, Any]
    target_name: str
    threads: int
    board: Board | None


@dataclass(frozen=True, eq=False)
class Contestant:
    """A scheduled kernel with what it is called with.

    Attributes:
        function: scheduled.
        arguments: the results come last.
    """

    function: tvm.tirx.PrimFunc
    arguments: tuple[Argument, ...]


@dataclass(frozen=True, eq=False)
class Contest:
    """Kernels that compute the same.

    Attributes:
        reference: our own schedule.
        others: those that may be faster.
        same_arguments: whether all read the same, so that their results can be compared.
    """

    reference: Contestant
    others: Mapping[str, Contestant]
    same_arguments: bool = True


@dataclass(frozen=True)
class Outcome:
    """What a contest showed.

    Attributes:
        reference_us: microseconds per call of the reference, the least of several turns.
        others_us: the same of the others; those that did not run, or wrongly, are left out.
    """

    reference_us: float
    others_us: Mapping[str, float]

    def ratio(self, name: str) -> float:
        """Time over that of the reference."""
        return self.others_us[name] / self.reference_us


def hold(contests: Sequence[Contest], arena: Arena) -> list[Outcome | None]:
    """Time each contest's kernels by turns; None where not even the reference ran.

    Whatever brings its process down is found by halving, and left out.

    Raises:
        CompileError: the board does not answer.
    """
    try:
        return _hold(contests, arena)
    except CompileError:
        if arena.board is not None:
            greet(arena.board)
    if len(contests) > 1:
        middle = len(contests) // 2
        return hold(contests[:middle], arena) + hold(contests[middle:], arena)
    (contest,) = contests
    names = list(contest.others)
    if not names:
        return [None]
    half = len(names) // 2
    parts = [names[:half], names[half:]] if half else [[]]
    outcomes = [
        hold([Contest(contest.reference, {name: contest.others[name] for name in part},
                      contest.same_arguments)], arena)[0]
        for part in parts
    ]  # fmt: skip
    return [_joined([outcome for outcome in outcomes if outcome is not None])]


def _joined(outcomes: Sequence[Outcome]) -> Outcome | None:
    """One outcome of several whose references are the same kernel."""
    if not outcomes:
        return None
    first = outcomes[0].reference_us
    others = {
        name: outcome.ratio(name) * first for outcome in outcomes for name in outcome.others_us
    }
    return Outcome(first, others)


def _hold(contests: Sequence[Contest], arena: Arena) -> list[Outcome | None]:
    functions: dict[str, tvm.tirx.PrimFunc] = {}
    values: dict[str, Any] = {}
    groups: list[dict[str, Any]] = []
    for i, contest in enumerate(contests):
        everyone = {"": contest.reference, **contest.others}
        entries = []
        for j, (name, contestant) in enumerate(everyone.items()):
            symbol = f"kernel_{i}_{j}"
            functions[symbol] = contestant.function.with_attr("global_symbol", symbol)
            arguments: list[dict[str, Any]] = []
            for argument in contestant.arguments:
                spec: dict[str, Any] = {"shape": argument.shape, "dtype": argument.dtype}
                if argument.values is not None:
                    spec["values"] = f"values_{len(values)}"
                    values[spec["values"]] = argument.values
                arguments.append(spec)
            entries.append({"name": name, "symbol": symbol, "arguments": arguments})
        groups.append({"same_arguments": contest.same_arguments, "kernels": entries})
    with tempfile.TemporaryDirectory(prefix="crespr-onnx-") as scratch:
        path = Path(scratch) / "kernels.json"
        path.write_text(tvm.ir.save_json(tvm.IRModule(functions)), encoding="utf-8")
        seconds = BUILD_S * len(functions) + START_S
        job: dict[str, Any] = {
            "job": "contest" if arena.board is None else "rpc_contest",
            "module": str(path),
            "target": dict(arena.target),
            "target_name": arena.target_name,
            "groups": groups,
        }
        if arena.board is not None:
            job |= {"board": asdict(arena.board), "connect_s": CONNECT_S, "session_s": seconds}
            seconds += CONNECT_S + START_S
        result, _ = call_worker(job, arena.threads, seconds, values)
    return [_outcome(group) for group in result["microseconds"]]


def _outcome(times: Mapping[str, float]) -> Outcome | None:
    others = dict(times)
    reference = others.pop("", None)
    return None if reference is None else Outcome(reference, others)
