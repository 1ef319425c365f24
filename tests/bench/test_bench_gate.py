"""--min-speedup: the rule of `compress`, on rows."""

from dataclasses import replace
from typing import Any

import pytest

from crespr_onnx.bench.gate import check_speed
from crespr_onnx.bench.record import ModelRecord, Row, SubjectRecord
from crespr_onnx.errors import SpeedGateError

ROW = Row("out", "dense", "onnxruntime", 1, 1, 4.0, 4.0, 4.0, 5, 1.0, None, None, None, "by hand")


def row(model: str, milliseconds: float, **changes: Any) -> Row:
    return replace(ROW, model=model, median_ms=milliseconds, **changes)


def subject(*models: str, name: str = "out") -> SubjectRecord:
    return SubjectRecord(name, tuple(ModelRecord(m, m, "", 0, None, 0) for m in models))


@pytest.mark.parametrize("least", [0.5, 4.0])
def test_the_best_engine_counts(least: float) -> None:
    rows = [ROW, row("compressed", 2.0), row("compressed", 1.0, engine="tvm")]
    assert check_speed([subject("dense", "compressed")], rows, least) == []


def test_too_slow() -> None:
    rows = [ROW, row("compressed", 2.5)]
    (error,) = check_speed([subject("dense", "compressed")], rows, 2.0)
    assert isinstance(error, SpeedGateError)
    assert error.exit_code == 6
    assert str(error) == (
        "out: 1.60 times as fast as dense in ONNX Runtime at batch 1 on one thread; "
        "--min-speedup asks for 2"
    )


def test_only_batch_one_on_one_thread_counts() -> None:
    fast = [row("compressed", 0.1, batch=8), row("compressed", 0.1, threads=2)]
    rows = [*fast, ROW, row("compressed", 4.0), row("dense", 1.0, batch=8)]
    (error,) = check_speed([subject("dense", "compressed")], rows, 1.5)
    assert str(error).startswith("out: 1.00 times as fast")


def test_every_model_of_every_subject_must_pass() -> None:
    rows = [
        ROW, row("compressed", 1.0), row("a", 3.0, subject="given"),
        row("b", 2.0, subject="given"), row("c", 1.0, subject="given"),
    ]  # fmt: skip
    subjects = [subject("dense", "compressed"), subject("a", "b", "c", name="given")]
    (error,) = check_speed(subjects, rows, 2.0)
    assert str(error).startswith("b: 1.50 times as fast as a in ONNX Runtime")
