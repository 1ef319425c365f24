"""TVM as an engine: compiled forms timed on this machine, or on a board."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import onnx_ir as ir

from crespr_onnx.forms.contest import Contest
from crespr_onnx.forms.cost_model import estimate
from crespr_onnx.forms.engine import ROUNDS, Times, cpu_name
from crespr_onnx.graph.save import save_model
from crespr_onnx.targets.remote import Board
from crespr_onnx.targets.target import Target
from crespr_onnx.targets.time_forms import Entry, time_compiled

FAR = 1.25
"""Forms that the cost model puts at so many times the fastest are not compiled to be timed: each
takes a second or two."""


class Compiled:
    """Models compiled by TVM, and timed on this machine or on a board.

    Attributes:
        far: see `FAR`; infinity times every form.
    """

    otherwise = f"not timed: by a cost model any other form takes more than {FAR:g} times as long"
    estimates = False

    def __init__(
        self, target: Target, lanes: int, board: Board | None = None, far: float = FAR
    ) -> None:
        self.far = far
        self._target = target
        self._lanes = lanes
        self._board = board

    @property
    def method(self) -> str:
        """See `Engine`."""
        return "measured in TVM" + (f" on {self._board}" if self._board else "")

    @property
    def key(self) -> Mapping[str, str]:
        """See `Engine`."""
        return {
            "engine": f"apache-tvm {version('apache-tvm')}, crespr-onnx {version('crespr-onnx')}",
            "target": self._target.name,
            "cpu": cpu_name() if self._board is None else str(self._board),
            "threads": "1",
            "far": f"{self.far:g}",
        }

    def time(self, contests: Sequence[Contest], done: Callable[[float], None]) -> list[Times]:
        """See `Engine`; all of it happens in one process of its own."""
        found: list[Times] = [{} for _ in contests]
        near = {i: near_ones(contest, self._lanes, self.far) for i, contest in enumerate(contests)}
        near = {i: models for i, models in near.items() if len(models) > 1}
        if not near:
            return found
        with tempfile.TemporaryDirectory(prefix="crespr-onnx-") as scratch:
            entries = []
            for i, models in near.items():
                paths = {}
                for name, model in models.items():
                    paths[name] = Path(scratch) / f"{i}-{name}.onnx"
                    save_model(model, paths[name])
                entries.append(Entry(paths, contests[i].shapes, contests[i].turn_seconds))
            times = time_compiled(entries, self._target, ROUNDS, board=self._board)
        for i, each in zip(near, times, strict=True):
            found[i] = each
        return found


def near_ones(contest: Contest, lanes: int, far: float) -> dict[str, ir.Model]:
    """The models of a contest that may be the fastest, as far as the cost model can tell.

    "grouped" is always among them.
    """
    models = contest.models()
    if far == float("inf"):
        return models
    costs = {name: estimate(model, contest.shapes, lanes) for name, model in models.items()}
    limit = far * min(costs.values())
    return {n: model for n, model in models.items() if costs[n] <= limit or n == "grouped"}
