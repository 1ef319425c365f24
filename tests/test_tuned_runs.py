"""Whole runs that tune the artefact: with few candidates, on this machine and on a board."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pipeline_models import compress, stored, tree, write_mlp
from rpc_servers import free_port, rpc_server

from crespr_onnx.errors import CompileError, UsageError
from crespr_onnx.targets.remote import Board


def test_the_report_says_what_was_tuned_and_records_make_repeats_free(tmp_path: Path) -> None:
    records = tmp_path / "tuning.jsonl"
    given = {"target": "cpu", "epochs": 0, "tune": 2, "tuning_records": str(records)}
    report = compress(tmp_path, **given)
    assert (report.status, report.exit_code) == ("ok", 0), report.reasons
    tuning = stored(tmp_path / "out")["tuning"]
    assert (tuning["trials"], tuning["records"]) == (2, str(records))
    assert sum(kernel["share"] for kernel in tuning["kernels"]) == pytest.approx(1, abs=0.05)
    assert tuning["measured"] > 0
    assert tuning["used"] == (tuning["ratio"] is not None and tuning["ratio"] < 1)
    assert "kernels" in report.timings_s
    assert "Tuned kernels" in (tmp_path / "out" / "report.html").read_text()
    first = tree(tmp_path / "out")
    assert [name for name in first if name.startswith(".")] == []

    again = compress(tmp_path, **given, force=True)
    assert again.tuning is not None
    assert again.tuning.measured == 0
    assert tree(tmp_path / "out")["model.so"] == first["model.so"]


@pytest.mark.slow
def test_candidates_are_measured_on_the_board(tmp_path: Path) -> None:
    with rpc_server(tmp_path) as board:
        report = compress(tmp_path, target="cpu", epochs=0, rpc=str(board), tune=2)
    assert (report.status, report.exit_code) == ("ok", 0), report.reasons
    assert report.artefact is not None
    assert report.artefact.ran == "remote"
    assert report.tuning is not None
    assert report.tuning.measured > 0
    assert all(kernel.before_us and kernel.before_us > 0 for kernel in report.tuning.kernels)


@pytest.mark.slow
def test_an_interrupt_leaves_records_and_nothing_else(tmp_path: Path) -> None:
    records, scratch = tmp_path / "tuning.jsonl", tmp_path / "scratch"
    scratch.mkdir()
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    program = [sys.executable, "-c", f"{heed}; from crespr_onnx.cli import main; main()"]
    model = str(write_mlp(tmp_path))
    options = ("--ratio", "0.6", "--target", "cpu", "--epochs", "0", "--clusters", "2")
    tuning = ("--tune", "60", "--tuning-records", str(records), "--form", "grouped")
    run = subprocess.Popen(
        [*program, "compress", model, *options, *tuning, "-o", str(tmp_path / "out")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "TMPDIR": str(scratch)},
    )  # fmt: skip
    deadline = time.monotonic() + 300
    while not records.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 130, err
    lines = records.read_text().splitlines()
    assert len(lines) > 0
    assert all(json.loads(line)["trials"] == 60 for line in lines)
    assert list(scratch.glob("crespr-onnx-*")) == []
    assert [name for name in tree(tmp_path / "out") if name.startswith(".build")] == []


def test_nothing_is_tuned_where_it_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^--tune tunes what is compiled, and for target 'onnx'"):
        compress(tmp_path, epochs=0, tune=2)
    board = Board("127.0.0.1", free_port())
    with pytest.raises(CompileError, match=f"^cannot connect to {board}: Connection refused"):
        compress(tmp_path, target="cpu", epochs=0, rpc=str(board), tune=2)
    assert not (tmp_path / "out").exists()
