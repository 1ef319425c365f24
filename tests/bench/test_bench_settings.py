"""What `bench` refuses before it reads anything."""

from math import inf, nan
from pathlib import Path
from typing import Any

import pytest

from crespr_onnx.bench.settings import BenchSettings, all_threads
from crespr_onnx.errors import UsageError

PATHS = (Path("a.onnx"),)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batches": (1, 0)}, "--batch is 0; it must be at least 1"),
        ({"batches": ()}, "no --batch is given; give at least one"),
        ({"threads": (-1,)}, "--threads is -1; it must be at least 0"),
        ({"repeats": 0}, "--repeats is 0; it must be at least 1"),
        ({"min_speedup": 0.0}, "--min-speedup is 0; it must be more than 0"),
        ({"min_speedup": nan}, "--min-speedup is nan; it must be more than 0"),
        ({"min_speedup": inf}, "--min-speedup is inf; it must be more than 0"),
        (
            {"min_speedup": 2.0, "batches": (8,)},
            "--min-speedup is decided at batch 1 on one thread; add --batch 1 --threads 1",
        ),
        (
            {"min_speedup": 2.0, "threads": (all_threads() + 1,)},
            "--min-speedup is decided at batch 1 on one thread; add --batch 1 --threads 1",
        ),
    ],
)
def test_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        BenchSettings(PATHS, **values).check()
    assert str(caught.value) == message


def test_accepted() -> None:
    BenchSettings(PATHS).check()
    BenchSettings(PATHS, min_speedup=0.5).check()
    BenchSettings(PATHS, threads=(3,), batches=(8,)).check()


def test_zero_threads_are_all() -> None:
    found = BenchSettings(PATHS, threads=(0, 1, 3, 1)).thread_counts
    assert found == tuple(sorted({1, 3, all_threads()}))
