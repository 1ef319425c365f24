"""How `compress` shows a report: results on stdout, reasons of a failure on stderr."""

import json
from pathlib import Path

import pytest

from crespr_onnx.commands.results import show_report
from crespr_onnx.record import Metric, Report

METRIC = Metric("accuracy", dense=0.99, compressed=0.9, drop=0.09, samples=100)
FAILED = Report("failed", 5, reasons=("accuracy fell", "too slow\x1b[2J"), metric=METRIC)
OK = Report("ok", 0, reasons=("the artefact is slow",), metric=METRIC)


def words(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def test_a_success_shows_the_table_its_remarks_and_the_folder(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show_report(OK, Path("out"), as_json=False)
    out, err = capsys.readouterr()
    assert err == ""
    assert words(out)[2:] == [
        "accuracy │ 99.00% │ 90.00% │ -9.00 points",
        "",
        "note: the artefact is slow",
        "results: out",
    ]


def test_a_failure_gives_its_reasons_as_errors(capsys: pytest.CaptureFixture[str]) -> None:
    show_report(FAILED, Path("out"), as_json=False)
    out, err = capsys.readouterr()
    assert err == "error: accuracy fell\nerror: too slow\\x1b[2J\n"
    assert words(out)[2:] == ["accuracy │ 99.00% │ 90.00% │ -9.00 points", "", "results: out"]


@pytest.mark.parametrize("report", [OK, FAILED])
def test_json_is_the_report_and_nothing_else(
    capsys: pytest.CaptureFixture[str], report: Report
) -> None:
    show_report(report, Path("out"), as_json=True)
    out, err = capsys.readouterr()
    assert json.loads(out) == report.to_dict()
    assert err.count("error:") == (2 if report is FAILED else 0)
