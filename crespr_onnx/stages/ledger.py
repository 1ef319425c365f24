"""Keeps the record of a run while it goes on, so that there is a report whatever happens."""

import os
import platform
import resource
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from typing import Any

from crespr_onnx.errors import CresprError
from crespr_onnx.record import Report

PACKAGES = ("crespr-onnx", "torch", "onnx", "onnx-ir", "onnxruntime", "onnx2torch", "apache-tvm")


class Ledger:
    """The report as far as the run has come."""

    def __init__(self, command: str, config: Mapping[str, Any], seed: int) -> None:
        self.report = Report(
            status="failed",
            exit_code=1,
            command=command,
            config=config,
            seed=seed,
            versions={"python": platform.python_version()} | {p: version(p) for p in PACKAGES},
            host={"machine": platform.machine(), "system": platform.platform(),
                  "cpus": os.cpu_count() or 1},
        )  # fmt: skip
        self._start = time.perf_counter()

    def note(self, **sections: Any) -> None:  # noqa: ANN401
        """Fills in sections of the report by name."""
        self.report = replace(self.report, **sections)

    @contextmanager
    def clock(self, stage: str) -> Iterator[None]:
        """Adds the time spent within to a stage's."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = self.report.timings_s.get(stage, 0.0) + time.perf_counter() - start
            self.note(timings_s={**self.report.timings_s, stage: round(spent, 3)})

    def close(self, failures: list[CresprError], remarks: list[str]) -> Report:
        """The finished report: the first failure gives the exit code, all give a reason.

        Args:
            failures: what went wrong, the worst first.
            remarks: what else the reader must know.
        """
        total = round(time.perf_counter() - self._start, 3)
        # On Linux in KiB, of this process; what compiles runs in processes of its own.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        self.note(
            status="failed" if failures else "ok",
            exit_code=failures[0].exit_code if failures else 0,
            reasons=(*(str(f) for f in failures), *remarks),
            timings_s={**self.report.timings_s, "total": total},
            host={**self.report.host, "peak_memory_bytes": peak},
        )
        return self.report
