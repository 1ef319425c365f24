"""What `bench` can be told."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path

from crespr_onnx.errors import UsageError


@dataclass(frozen=True)
class BenchSettings:
    """What to time, and how.

    Attributes:
        paths: folders that `compress` wrote, and ONNX models.
        dense: the model that all are compared with, instead of the one that a folder names, or of
            the first of `paths`.
        data: inputs to time on, as for `compress`; random numbers without.
        input_shapes: shape of inputs with dynamic axes besides the batch.
        batches: samples per call.
        threads: threads of the engines; 0 stands for all that this process may use.
        repeats: turns that every engine takes; medians and quartiles are over these.
        min_speedup: least speed-up of every model, in its best engine, over the dense one in ONNX
            Runtime, at batch 1 on one thread; None asks for none.
    """

    paths: tuple[Path, ...]
    dense: Path | None = None
    data: str | None = None
    input_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    batches: tuple[int, ...] = (1, 8)
    threads: tuple[int, ...] = (1, 0)
    repeats: int = 21
    min_speedup: float | None = None

    @property
    def thread_counts(self) -> tuple[int, ...]:
        """The numbers of threads in ascending order, without repetition."""
        return tuple(sorted({count or all_threads() for count in self.threads}))

    def check(self) -> None:
        """Refuses what cannot be measured.

        Raises:
            UsageError: a value is out of its range, or the gate needs what is not measured.
        """
        for name, values, least in (
            ("batch", self.batches, 1),
            ("threads", self.threads, 0),
            ("repeats", (self.repeats,), 1),
        ):
            if not values:
                raise UsageError(f"no --{name} is given; give at least one")
            if min(values) < least:
                raise UsageError(f"--{name} is {min(values)}; it must be at least {least}")
        if self.min_speedup is None:
            return
        if not (isfinite(self.min_speedup) and self.min_speedup > 0):
            raise UsageError(f"--min-speedup is {self.min_speedup:g}; it must be more than 0")
        if 1 not in self.batches or 1 not in self.thread_counts:
            raise UsageError(
                "--min-speedup is decided at batch 1 on one thread; add --batch 1 --threads 1"
            )


def all_threads() -> int:
    """How many threads can run at once for this process."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
