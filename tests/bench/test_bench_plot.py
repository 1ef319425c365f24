"""The bars that a report becomes."""

from pathlib import Path

import pytest

from crespr_onnx.bench.plot import draw
from crespr_onnx.bench.record import BenchReport, Row, SubjectRecord
from crespr_onnx.errors import UsageError


def report(*rows: Row) -> BenchReport:
    names = dict.fromkeys(row.subject for row in rows)
    subjects = tuple(SubjectRecord(name, ()) for name in names)
    return BenchReport("ok", 0, (), "", {}, {}, (), subjects, rows, ())


def row(subject: str, model: str, batch: int, milliseconds: float, floor: float | None) -> Row:
    q1, q3 = 0.9 * milliseconds, 1.2 * milliseconds
    above = None if floor is None else milliseconds / floor
    bound = None if floor is None else "macs"
    return Row(
        subject, model, "onnxruntime", batch, 1, milliseconds, q1, q3, 5, 4.0 / milliseconds,
        floor, bound, above, "by hand",
    )  # fmt: skip


def test_every_subject_model_and_size_is_named(tmp_path: Path) -> None:
    found = report(
        row("first", "dense", 1, 4.0, 1.0), row("first", "compressed", 1, 1.6, 0.1),
        row("first", "dense", 8, 9.0, 2.0), row("second", "dense", 1, 3.0, None),
    )  # fmt: skip
    draw(found, tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text()
    # matplotlib writes text as outlines, with the text itself in a comment.
    texts = (
        "first", "second", "dense, ONNX Runtime", "compressed, ONNX Runtime", "2.5x", "batch 1",
        "batch 8", "floor: MACs and bytes at peak", "ms per call",
    )  # fmt: skip
    for words in texts:
        assert f"<!-- {words} -->" in text, words
    assert text.count("<!-- floor: MACs and bytes at peak -->") == 1


def test_png(tmp_path: Path) -> None:
    draw(report(row("s", "dense", 1, 4.0, 1.0)), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        draw(report(row("s", "dense", 1, 4.0, 1.0)), tmp_path / "gone" / "a.png")
