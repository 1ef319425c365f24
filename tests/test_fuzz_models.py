"""Thousands of damaged models: inspected or refused, quickly, within bounds, and without a trace.

Each model goes to a worker process with bounded memory; a worker that dies or does not answer is
a failure of that model. Run with `pytest -m slow tests/test_fuzz_models.py`; CRESPR_FUZZ_CASES and
CRESPR_FUZZ_SEED set other numbers.
"""

import multiprocessing
import os
import resource
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import onnx
import pytest
from fuzz_bytes import damage
from fuzz_mutations import mutate, seeds
from fuzz_plausible import plausible

CASES = int(os.environ.get("CRESPR_FUZZ_CASES", "6000"))
SEED = int(os.environ.get("CRESPR_FUZZ_SEED", "0"))
SECONDS = 30.0
MEMORY = 6 * 2**30
HOW = (damage, mutate, plausible, plausible)
SPAWN = multiprocessing.get_context("spawn")


def work(pipe: Connection) -> None:
    """Inspects the files whose paths come in; answers with what came out."""
    import logging
    import warnings

    from crespr_onnx.errors import CresprError
    from crespr_onnx.graph.load import load_model
    from crespr_onnx.inspection import inspect_model

    logging.disable()
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while True:
        path = pipe.recv()
        try:
            load_model(path, large=1)
            inspect_model(path)
            pipe.send(("inspected", ""))
        except CresprError as error:
            pipe.send(("refused", str(error)))
        except BaseException as error:  # the point of it all
            import traceback

            place = traceback.extract_tb(error.__traceback__)
            ours = [frame for frame in place if "/crespr_onnx/" in frame.filename] or place
            where = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
            pipe.send(("escaped", f"{where}: {type(error).__name__}: {str(error)[:300]}"))


@dataclass
class Worker:
    """A process that inspects models, started again after each death."""

    process: multiprocessing.process.BaseProcess
    pipe: Connection

    @classmethod
    def start(cls) -> "Worker":
        ours, theirs = SPAWN.Pipe()
        process = SPAWN.Process(target=work, args=(theirs,), daemon=True)
        process.start()
        theirs.close()
        return cls(process, ours)

    def inspect(self, path: Path, seconds: float = SECONDS) -> tuple[str, str]:
        """What came out; "hung" or "crashed" if nothing did, and then the worker is gone."""
        try:
            self.pipe.send(path)
            if self.pipe.poll(seconds):
                outcome, detail = self.pipe.recv()
                return outcome, detail
            outcome = "hung"
        except (EOFError, OSError):
            outcome = "crashed"
        self.process.kill()
        self.process.join()
        return outcome, f"exit code {self.process.exitcode}"


def files_below(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.lstat().st_size for p in folder.rglob("*")}


@pytest.mark.slow
def test_damaged_models_are_inspected_or_refused(tmp_path: Path) -> None:
    inside = tmp_path / "outer" / "inner"
    inside.mkdir(parents=True)
    outside = tmp_path / "outer" / "outside.bin"
    outside.write_bytes(bytes(4096))
    (inside / "w.bin").write_bytes(bytes(4096))
    (inside / "link.bin").symlink_to(outside)
    path = inside / "model.onnx"
    path.touch()
    models = seeds()
    rng = np.random.default_rng(SEED)
    outcomes: Counter[str] = Counter()
    failures: list[str] = []
    worker = Worker.start()
    path.write_bytes(models[0].SerializeToString())
    assert worker.inspect(path) == ("inspected", "")  # and everything is imported
    before = files_below(tmp_path).keys()
    slowest = 0.0
    for case in range(CASES):
        model = models[int(rng.integers(len(models)))]
        content = HOW[int(rng.integers(len(HOW)))](model, rng)
        path.write_bytes(content)
        started = time.perf_counter()
        outcome, detail = worker.inspect(path)
        slowest = max(slowest, time.perf_counter() - started)
        outcomes[outcome] += 1
        if outcome not in ("inspected", "refused"):
            failures.append(f"case {case}: {outcome}: {detail}")
            keep = os.environ.get("CRESPR_FUZZ_KEEP")
            if keep:
                (Path(keep) / f"{case}-{outcome}.onnx").write_bytes(content)
        elif outcome == "refused" and not detail.startswith(f"{path}: "):
            failures.append(f"case {case}: the path is not in front of {detail!r}")
        if outcome in ("hung", "crashed"):
            worker = Worker.start()
        assert files_below(tmp_path).keys() == before
    worker.process.kill()
    sys.stdout.write(f"{dict(outcomes)}, slowest {slowest:.1f} s\n")
    assert failures == []
    assert min(outcomes["inspected"], outcomes["refused"]) > CASES // 20
    assert outside.read_bytes() == bytes(4096)


def test_the_seeds_of_the_fuzzer_are_valid() -> None:
    for model in seeds():
        onnx.checker.check_model(model, full_check=True)


@pytest.mark.slow
def test_the_watchdog_sees_what_it_is_there_for(tmp_path: Path) -> None:
    worker = Worker.start()
    outcome, detail = worker.inspect(7)  # type: ignore[arg-type]
    assert outcome == "escaped"
    assert "TypeError" in detail
    os.kill(worker.process.pid or 0, signal.SIGSTOP)
    assert worker.inspect(tmp_path, seconds=0.5) == ("hung", "exit code -9")
    worker = Worker.start()
    os.kill(worker.process.pid or 0, signal.SIGKILL)
    assert worker.inspect(tmp_path) == ("crashed", "exit code -9")
