"""Timing several forms of several models at once, in one process of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from crespr_onnx.targets.process import call_worker
from crespr_onnx.targets.remote import CONNECT_S, Board
from crespr_onnx.targets.target import Target


@dataclass(frozen=True)
class Entry:
    """Models that take the same inputs and are timed side by side.

    Attributes:
        models: ONNX files by the name to report them under.
        shapes: of the inputs.
        round_seconds: roughly how long each is timed before the next takes its turn.
    """

    models: Mapping[str, Path]
    shapes: Mapping[str, tuple[int, ...]]
    round_seconds: float


def time_compiled(
    entries: Sequence[Entry],
    target: Target,
    rounds: int,
    threads: int = 1,
    timeout: float = 1800.0,
    board: Board | None = None,
) -> list[dict[str, float]]:
    """Milliseconds per run of compiled models, on random inputs.

    Starting TVM costs seconds, so one process does it all.

    Args:
        entries: what to time.
        target: what to compile for.
        rounds: how many times each model takes its turn.
        threads: threads for TVM.
        timeout: seconds after which timing is given up.
        board: where to time them, if not here.

    Returns:
        For each entry the median over the rounds by name; what cannot be compiled is left out.

    Raises:
        CompileError: the process crashed or hung, or the board does not answer.
    """
    job: dict[str, Any] = {
        "job": "time_forms",
        "entries": [
            {
                "models": {name: str(path.resolve()) for name, path in entry.models.items()},
                "shapes": {name: list(shape) for name, shape in entry.shapes.items()},
                "round_seconds": entry.round_seconds,
            }
            for entry in entries
        ],
        "target": target.name,
        "threads": threads,
        "rounds": rounds,
    }
    if board is not None:
        job |= {"job": "rpc_time_forms", "board": asdict(board)}
        job |= {"connect_s": CONNECT_S, "session_s": timeout}
    result, _ = call_worker(job, threads, timeout)
    return [
        {name: median(turns) for name, turns in found.items()} for found in result["milliseconds"]
    ]
