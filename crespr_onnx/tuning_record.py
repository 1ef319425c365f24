"""What a run records of the tuning of its artefact; a part of `record`."""

from dataclasses import dataclass

OWN_SCHEDULE = "own schedule"
"""Winner of a kernel that tuning left as it was."""


@dataclass(frozen=True)
class KernelRecord:
    """A kernel of the artefact that was tuned.

    Attributes:
        name: what it computes.
        share: of the time of all kernels before, or None where nothing was measured.
        trials: candidates that were measured for it, those of earlier runs included.
        before_us: microseconds per call with our own schedule.
        after_us: the same with what was chosen, measured by turns with it.
        winner: "own schedule", "other tile" or "MetaSchedule".
    """

    name: str
    share: float | None
    trials: int
    before_us: float | None
    after_us: float | None
    winner: str


@dataclass(frozen=True)
class TuningRecord:
    """What tuning made of the artefact.

    Attributes:
        trials: candidates per kernel that were asked for.
        measured: candidates that were measured in this run.
        records: the file that keeps what was found.
        used: whether the tuned artefact is the one that is delivered.
        ratio: time of the tuned artefact over that of the untuned one, by turns, or None where
            they were not compared.
        kernels: those that take time enough to be worth tuning, the slowest first.
    """

    trials: int
    measured: int
    records: str
    used: bool
    ratio: float | None
    kernels: tuple[KernelRecord, ...] = ()
