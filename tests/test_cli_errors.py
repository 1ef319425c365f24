"""Errors of our own, and readers that have gone."""

import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
from command_line import PROGRAM

from crespr_onnx import cli


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that fails as no command should."""

    @click.command("broken")
    @click.pass_obj
    @click.option("--debug", is_flag=True)
    def command(session: Any, /, debug: bool) -> None:
        session.debug = debug
        raise ZeroDivisionError("one line\nand another")

    monkeypatch.setitem(cli.cli.commands, "broken", command)


@pytest.mark.usefixtures("broken")
def test_an_unexpected_error_is_one_line(call: Any) -> None:
    assert call("broken") == (
        1,
        "",
        "error: unexpected ZeroDivisionError: one line and another; "
        "run again with --debug for the traceback\n",
    )


@pytest.mark.usefixtures("broken")
def test_debug_shows_the_traceback(call: Any) -> None:
    code, out, err = call("broken", "--debug")
    assert (code, out) == (1, "")
    assert err.startswith("Traceback (most recent call last):\n")
    assert err.endswith("\nerror: unexpected ZeroDivisionError: one line and another\n")


def test_debug_shows_where_a_refusal_comes_from(call: Any, tmp_path: Path) -> None:
    code, out, err = call("inspect", str(tmp_path / "m.onnx"), "--debug")
    assert (code, out) == (3, "")
    assert "Traceback" in err
    assert "in load_model" in err
    assert err.endswith("no such file; give the path of an .onnx model\n")


def test_a_reader_that_has_gone_is_no_traceback() -> None:
    command = [*PROGRAM, "targets"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert run.stdout is not None
    run.stdout.close()
    assert run.stderr is not None
    assert (run.wait(timeout=60), run.stderr.read()) == (1, b"")
    run.stderr.close()
