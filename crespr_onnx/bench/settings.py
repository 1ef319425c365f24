"""What `bench` can be told."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path

from crespr_onnx.errors import UsageError
from crespr_onnx.targets.remote import parse_board


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
        rpc: HOST:PORT of a TVM RPC server, or HOST:PORT/KEY of a tracker: compiled models are timed
            there, dense and compressed, for those of `threads` that are not 0.
        min_speedup: least speed-up of every model, in its best engine, over the dense one in ONNX
            Runtime, or compiled with `rpc`, at batch 1 on one thread; None asks for none.
    """

    paths: tuple[Path, ...]
    dense: Path | None = None
    data: str | None = None
    input_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    batches: tuple[int, ...] = (1, 8)
    threads: tuple[int, ...] = (1, 0)
    repeats: int = 21
    rpc: str | None = None
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
        if self.rpc is not None:
            parse_board(self.rpc)
            if not any(self.threads):
                raise UsageError(
                    "--rpc needs a number of threads, since how many that machine has is not "
                    "known; add --threads 1"
                )
        if self.min_speedup is None:
            return
        if not (isfinite(self.min_speedup) and self.min_speedup > 0):
            raise UsageError(f"--min-speedup is {self.min_speedup:g}; it must be more than 0")
        counts = self.thread_counts if self.rpc is None else self.threads
        if 1 not in self.batches or 1 not in counts:
            raise UsageError(
                "--min-speedup is decided at batch 1 on one thread; add --batch 1 --threads 1"
            )


def all_threads() -> int:
    """How many threads can run at once for this process."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
