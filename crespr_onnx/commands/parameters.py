"""What the commands share: how their values are read, and options that several of them take."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


@dataclass
class Session:
    """What a command shares with what runs it.

    Attributes:
        command: the command line, as it could be typed again.
        debug: whether errors show their traceback.
    """

    command: str
    debug: bool = False


def file_name(text: str) -> str:
    """A path or the name of a data source.

    Refuses what would silently mean the working directory, or cannot be written to a report.
    """
    if not text.strip():
        raise click.BadParameter("it is empty; is a variable of your script not set?")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise click.BadParameter(f"{text!a} is not UTF-8; rename it") from error
    return text


def numbers(text: str) -> tuple[float, ...]:
    """.485,.456,.406 -> (0.485, 0.456, 0.406)."""
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError as error:
        raise click.BadParameter(
            f"{text!r} is not a number, nor several with commas between them"
        ) from error


def auto_or_integer(text: str) -> int | None:
    """auto -> None, 8 -> 8."""
    try:
        return None if text == "auto" else int(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is neither auto nor a whole number") from error


def input_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """x:1x3 -> ("x", (1, 3)); the name may hold colons of its own."""
    name, _, dims = text.rpartition(":")
    try:
        shape = tuple(int(size) for size in dims.split("x"))
    except ValueError:
        shape = (0,)
    if not name or min(shape) < 1:
        raise click.BadParameter(f"{text!r} is not of the form NAME:1x3x224x224")
    return name, shape


def input_shape_option(function: F) -> F:
    """--input-shape, as often as there are such inputs."""
    return click.option(
        "--input-shape",
        type=input_shape,
        metavar="NAME:1x3x224x224",
        multiple=True,
        help="Shape of an input with dynamic axes besides the batch. May be repeated.",
    )(function)


def json_option(function: F) -> F:
    """--json."""
    return click.option(
        "--json", "as_json", is_flag=True, help="JSON on stdout, and nothing else there."
    )(function)


def debug_option(function: F) -> F:
    """--debug; kept in the session, since it matters after the command has failed."""

    def keep(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        session = ctx.find_object(Session)
        if session is not None:
            session.debug |= value

    return click.option(
        "--debug",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=keep,
        help="Tracebacks for errors.",
    )(function)


def print_json(document: Mapping[str, Any]) -> None:
    """One JSON document on stdout."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))
