"""What people see of a run: one line per stage, a live display on a terminal, log lines."""

import contextlib
import logging
import sys
import time
from collections.abc import Collection, Iterator
from types import TracebackType
from typing import IO, TYPE_CHECKING, Self

import click

from crespr_onnx.progress import Listener, Progress, silent

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.table import Table

# Wide enough that a table keeps its lines in a log.
PLAIN_WIDTH = 160


def make_console(stream: IO[str]) -> "Console":
    """A console without colour or cursor movements unless the stream is a terminal."""
    from rich.console import Console

    terminal = stream.isatty()
    return Console(
        file=stream,
        force_terminal=terminal,
        width=None if terminal else PLAIN_WIDTH,
        highlight=False,
        markup=False,
        emoji=False,
    )


def printable(text: str) -> str:
    """Text of a foreign file without anything that steers a terminal; line breaks stay."""
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text
    )


def print_error(message: str) -> None:
    """One error on stderr."""
    click.echo(f"{click.style('error:', fg='red')} {printable(message)}", err=True)


def make_table(*titles: str, numbers: Collection[str] = ()) -> "Table":
    """An empty table without a frame; the columns of `numbers` are flush right."""
    from rich.table import Table

    table = Table(show_edge=False, pad_edge=False)
    for title in titles:
        table.add_column(title, justify="right" if title in numbers else "left", overflow="fold")
    return table


def format_seconds(seconds: float) -> str:
    """Wall time as people read it: 3.2 s, 4 min 05 s."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


class StageDisplay:
    """A listener that prints a line when a stage is done and shows the current one on a terminal.

    A context manager: leaving it finishes the last stage, or says that it stopped.
    """

    def __init__(self, console: "Console") -> None:
        self._console = console
        live = console.is_terminal and not console.is_dumb_terminal
        self._bars = _make_bars(console) if live else None
        self._current: Progress | None = None
        self._started = 0.0

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._finish("" if error is None else "stopped")
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, progress: Progress) -> None:
        """Shows one sign of life; another stage than the last finishes that one."""
        if self._current is None or progress.stage != self._current.stage:
            self._finish("")
            self._started = time.monotonic()
            if self._bars is not None:
                self._bars.add_task(printable(progress.stage), total=None, detail="")
        self._current = progress
        if self._bars is not None:
            self._bars.update(
                self._bars.task_ids[-1],
                total=None if progress.done is None else 1.0,
                completed=progress.done or 0.0,
                detail=printable(progress.detail),
            )

    def _finish(self, remark: str) -> None:
        if self._current is None:
            return
        if self._bars is not None:
            self._bars.remove_task(self._bars.task_ids[-1])
        seconds = format_seconds(time.monotonic() - self._started)
        notes = [printable(self._current.detail), remark]
        note = "; ".join(text for text in notes if text)
        line = f"{seconds:>12}  {printable(self._current.stage)}"
        self._console.print(f"{line}: {note}" if note else line, soft_wrap=True)
        self._current = None


@contextlib.contextmanager
def stage_display(quiet: bool) -> Iterator[Listener]:
    """The listener for a command: stages and warnings on stderr, or, if quiet, neither.

    What anything prints to stdout meanwhile, such as a data function of the user's, goes to stderr
    as well: stdout is for results.
    """
    console = make_console(sys.stderr)
    handler = _LogLines(console)
    handler.setLevel(logging.ERROR if quiet else logging.WARNING)
    logger = logging.getLogger("crespr_onnx")
    logger.addHandler(handler)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            if quiet:
                yield silent
            else:
                with StageDisplay(console) as display:
                    yield display
    finally:
        logger.removeHandler(handler)


class _LogLines(logging.Handler):
    """Log records as lines that do not break the live display."""

    def __init__(self, console: "Console") -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        text = printable(f"{record.levelname.lower()}: {record.getMessage()}")
        self._console.print(text, soft_wrap=True)


def _make_bars(console: "Console") -> "Bars":
    from rich.progress import (
        BarColumn,
        ProgressColumn,
        SpinnerColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bars
    from rich.text import Text

    class OnlyWithShare(ProgressColumn):
        """Shows a column for stages of which the share that is done is known."""

        def __init__(self, column: ProgressColumn) -> None:
            super().__init__()
            self._column = column

        def render(self, task: Task) -> "Text":
            return Text("") if task.total is None else self._column(task)  # type: ignore[return-value]

    return Bars(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        OnlyWithShare(BarColumn(bar_width=30)),
        TimeElapsedColumn(),
        OnlyWithShare(TimeRemainingColumn()),
        TextColumn("{task.fields[detail]}", markup=False),
        console=console,
        transient=True,
    )
