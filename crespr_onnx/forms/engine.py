"""What times contests: ONNX Runtime on this machine, and others beside it."""

import logging
import platform
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

from crespr_onnx.errors import CresprError
from crespr_onnx.forms.contest import Contest
from crespr_onnx.graph.latency import time_models

ROUNDS = 12
"""Turns of each model."""

Times = dict[str, float]
"""Milliseconds per call by the name of a model; what cannot be run is not there."""

logger = logging.getLogger(__name__)


class Engine(Protocol):
    """Something that runs models, and tells how long they take."""

    @property
    def method(self) -> str:
        """How times come about, for the report: "measured in ONNX Runtime"."""

    @property
    def otherwise(self) -> str:
        """What to say of a layer for which there are no times."""

    @property
    def estimates(self) -> bool:
        """Whether its times only compare forms, and those of parts add up to a model's."""

    @property
    def key(self) -> Mapping[str, str]:
        """All that times depend on besides the models."""

    def time(self, contests: Sequence[Contest], done: Callable[[float], None]) -> list[Times]:
        """Times the models of each contest side by side, on one thread.

        Args:
            contests: what to time.
            done: told the share of them that is behind.

        Raises:
            CompileError: nothing can be timed just now, as the board does not answer.
        """


class OnnxRuntime:
    """ONNX Runtime on this machine."""

    method = "measured in ONNX Runtime"
    otherwise = "not timed"
    estimates = False

    @property
    def key(self) -> Mapping[str, str]:
        """See `Engine`."""
        return {
            "engine": f"onnxruntime {version('onnxruntime')}",
            "target": "onnx",
            "cpu": cpu_name(),
            "threads": "1",
        }

    def time(self, contests: Sequence[Contest], done: Callable[[float], None]) -> list[Times]:
        """See `Engine`."""
        found: list[Times] = []
        for i, contest in enumerate(contests):
            try:
                timed = time_models(
                    contest.models(),
                    contest.inputs(),
                    rounds=ROUNDS,
                    turn_seconds=contest.turn_seconds,
                )
                found.append({name: latency.median_ms for name, latency in timed.items()})
            # What cannot be cut out of a model, or not be fed, keeps the form that it has.
            except CresprError as error:
                logger.info("a part of the model is not timed: %s", error)
                found.append({})
            done((i + 1) / len(contests))
        return found


def cpu_name() -> str:
    """The processor of this machine, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def format_microseconds(milliseconds: float) -> str:
    """A time with three digits that count, or all digits of whole microseconds."""
    microseconds = 1e3 * milliseconds
    return f"{microseconds:.3g} us" if microseconds < 1000 else f"{microseconds:,.0f} us"
