"""The command line: what it offers, and what becomes of errors. Nothing heavy is imported here."""

import os
import shlex
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

import click

from crespr_onnx import processes
from crespr_onnx.commands.bench import bench
from crespr_onnx.commands.compress import compress
from crespr_onnx.commands.inspect import inspect
from crespr_onnx.commands.parameters import Session
from crespr_onnx.commands.targets import targets
from crespr_onnx.commands.verify import verify
from crespr_onnx.errors import CresprError, UsageError
from crespr_onnx.terminal import print_error

PROGRAM = "crespr-onnx"
UNEXPECTED = 1
INTERRUPTED = 130
HELP = """Make trained ONNX models physically smaller for edge hardware, and prove it.

\b
Examples:
  crespr-onnx compress in.onnx --ratio 0.98 --target cpu --data train.npz
  crespr-onnx inspect in.onnx
  crespr-onnx verify a.onnx b.onnx
  crespr-onnx bench compressed-in
  crespr-onnx targets

\b
Exit codes: 0 ok, 2 usage, 3 bad or unsupported model, 4 bad data, 5 accuracy gate,
6 speed or size gate, 7 verification, 8 compile, 130 interrupted.
"""


@click.group(help=HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="crespr-onnx", message="%(prog)s %(version)s")
def cli() -> None:
    """The group of all commands."""


for _command in (compress, inspect, verify, bench, targets):
    cli.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line and ends the process with its exit code."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Runs one command and returns its exit code; errors become one or two lines on stderr."""
    for stream in (sys.stdout, sys.stderr):
        # Names of a model may hold letters that the terminal's encoding lacks.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    session = Session(command=shlex.join([PROGRAM, *arguments]))
    try:
        with cli.make_context(PROGRAM, list(arguments), obj=session) as context:
            code = cli.invoke(context)
        sys.stdout.flush()
        return int(code or 0)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return UsageError.exit_code
    except click.UsageError as error:
        path = PROGRAM if error.ctx is None else error.ctx.command_path
        _complain(f"{error.format_message()}\nsee {path} --help", session)
        return UsageError.exit_code
    except CresprError as error:
        _complain(str(error), session)
        return error.exit_code
    except KeyboardInterrupt as interrupt:
        if processes.is_main():
            click.echo("; ".join(["interrupted", *map(str, interrupt.args)]), err=True)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has gone; what is still in the buffer must not be tried again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNEXPECTED
    except Exception as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())[:300].rstrip(": ")
        hint = "" if session.debug else "; run again with --debug for the traceback"
        _complain(f"unexpected {what}{hint}", session)
        return UNEXPECTED


def _complain(message: str, session: Session) -> None:
    processes.give_way()
    if session.debug:
        click.echo(traceback.format_exc(), err=True, nl=False)
    print_error(message)
