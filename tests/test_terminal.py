"""What a run shows: lines where there is no terminal, a live display where there is one."""

import io
import logging
import sys
import time

import pytest
from rich.console import Console

from crespr_onnx.progress import Progress
from crespr_onnx.terminal import (
    PLAIN_WIDTH,
    StageDisplay,
    format_seconds,
    make_console,
    print_error,
    printable,
    stage_display,
)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def show(console: Console, pause: float = 0.0) -> None:
    with StageDisplay(console) as display:
        display(Progress("read"))
        display(Progress("train", 0.0, "loss 2.0"))
        display(Progress("train", 0.5))
        time.sleep(pause)
        display(Progress("train", 1.0, "loss 0.5"))
        display(Progress("write"))


def test_without_a_terminal_there_is_one_line_per_stage_and_no_escape() -> None:
    stream = io.StringIO()
    show(make_console(stream))
    lines = stream.getvalue().splitlines()
    assert [line.split(" s  ")[1] for line in lines] == ["read", "train: loss 0.5", "write"]
    assert "\x1b" not in stream.getvalue()


def test_forced_colours_do_not_make_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    stream = io.StringIO()
    console = make_console(stream)
    console.print("[red]x[/] :smile: 1", style="red")
    assert stream.getvalue() == "[red]x[/] :smile: 1\n"
    assert console.width == PLAIN_WIDTH


def test_on_a_terminal_the_stage_is_live_and_its_line_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    show(make_console(stream), pause=0.3)
    text = stream.getvalue()
    assert "\x1b[" in text
    assert "train: loss 0.5\n" in text
    assert "━" in text


def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    show(make_console(stream))
    assert len(stream.getvalue().splitlines()) == 3
    assert "━" not in stream.getvalue()


def test_a_stage_that_fails_is_not_shown_as_done() -> None:
    stream = io.StringIO()
    display = StageDisplay(make_console(stream))
    display(Progress("train", 0.5, "loss 1"))
    with pytest.raises(ValueError, match="odd"), display:
        raise ValueError("odd")
    assert stream.getvalue().endswith("s  train: loss 1; stopped\n")


def test_no_stage_prints_nothing() -> None:
    stream = io.StringIO()
    with StageDisplay(make_console(stream)):
        pass
    assert stream.getvalue() == ""


def test_prints_and_warnings_of_a_run_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with stage_display(quiet=False) as listener:
        listener(Progress("read"))
        sys.stdout.write("from a data function\n")
        logging.getLogger("crespr_onnx.somewhere").warning("odd %s", "value")
        logging.getLogger("crespr_onnx.somewhere").info("nothing")
    sys.stdout.write("result\n")
    out, err = capsys.readouterr()
    assert out == "result\n"
    first, second, third = err.splitlines()
    assert (first, second) == ("from a data function", "warning: odd value")
    assert third.endswith(" s  read")


def test_quiet_runs_show_errors_only(capsys: pytest.CaptureFixture[str]) -> None:
    with stage_display(quiet=True) as listener:
        listener(Progress("read"))
        logging.getLogger("crespr_onnx").warning("odd")
        logging.getLogger("crespr_onnx").error("bad")
    assert capsys.readouterr() == ("", "error: bad\n")


def test_the_handler_is_gone_afterwards() -> None:
    before = list(logging.getLogger("crespr_onnx").handlers)
    with pytest.raises(KeyboardInterrupt), stage_display(quiet=True):
        raise KeyboardInterrupt
    assert logging.getLogger("crespr_onnx").handlers == before
    assert sys.stdout is not sys.stderr


def test_names_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert printable("a\x1b[2Jb\rc\nd\u202eé") == "a\\x1b[2Jb\\rc\nd\\u202eé"
    print_error("node '\x1b[31m'")
    assert capsys.readouterr() == ("", "error: node '\\x1b[31m'\n")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (59.96, "1 min 00 s"), (3725.4, "62 min 05 s")],
)
def test_times(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text
