"""The config file of `compress`: read for --config, and written beside the results."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from crespr_onnx.errors import UsageError
from crespr_onnx.settings import CompressSettings

PREPROCESSING = {"mean": "image_mean", "std": "image_std", "scale": "image_scale"}
# Fields of the settings that have other names, or several, on the command line.
OPTIONS_OF_FIELD = {"images": tuple(PREPROCESSING.values()), "input_shapes": ("input_shape",)}
KEYS = tuple(
    option
    for field in fields(CompressSettings)
    for option in OPTIONS_OF_FIELD.get(field.name, (field.name,))
)
# How a run treats the folder that it finds says nothing about what it makes.
NOT_WRITTEN = frozenset({"resume", "force"})

Words = str | bool | list[str]


def read_config(path: Path) -> dict[str, Words]:
    """Reads a config file into the words of the command line, which then checks both alike.

    Keys are the names of the options, with dashes or underscores; the table ``preprocessing`` holds
    mean, std and scale of images, and ``input_shape`` may be a table of lists by input. Paths are
    relative to the working directory, as they are on the command line.

    Returns:
        Value by name of the option, with underscores.

    Raises:
        UsageError: if the file cannot be read, is not TOML, or holds a key that is not known.
    """
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError are both of this kind
        raise UsageError(f"{path}: not a TOML file: {error}") from error
    words: dict[str, Words] = {}
    for key, value in document.items():
        name = key.replace("-", "_")
        if name == "preprocessing":
            found: Mapping[str, Words] = _preprocessing(path, value)
        elif name == "input_shape":
            found = {name: _shapes(path, key, value)}
        elif name in KEYS:
            found = {name: _word(path, key, value)}
        else:
            raise _unknown(path, key, ("preprocessing", *KEYS))
        if twice := words.keys() & found.keys():
            raise UsageError(f"{path}: {min(twice)} is given twice; give it once")
        words |= found
    return words


def to_table(settings: CompressSettings) -> dict[str, Any]:
    """The settings as the config file holds them; what is not set is left out.

    `resume` and `force` are left out too: a resumed run makes what an uninterrupted one makes.
    """
    table: dict[str, Any] = {}
    for field in fields(settings):
        value = getattr(settings, field.name)
        if field.name == "clusters" and value is None:
            table[field.name] = "auto"
        elif value is None or field.name in NOT_WRITTEN | OPTIONS_OF_FIELD.keys():
            continue
        else:
            table[field.name] = str(value) if isinstance(value, Path) else value
    if settings.images is not None:
        table["preprocessing"] = {key: getattr(settings.images, key) for key in PREPROCESSING}
    if settings.input_shapes:
        table["input_shape"] = dict(settings.input_shapes)
    return table


def to_toml(settings: CompressSettings) -> str:
    """The settings as the text of a config file, which gives the same settings when it is read."""
    lines = ["# The settings of a run of crespr-onnx compress; --config takes them again."]
    tables: list[str] = []
    for key, value in to_table(settings).items():
        if isinstance(value, Mapping):
            tables += ["", f"[{key}]", *(f"{_toml(k)} = {_toml(v)}" for k, v in value.items())]
        else:
            lines.append(f"{key} = {_toml(value)}")
    return "\n".join([*lines, *tables, ""])


def _preprocessing(path: Path, table: object) -> dict[str, Words]:
    if not isinstance(table, dict):
        raise UsageError(f"{path}: preprocessing must be a table with mean, std and scale")
    for key in table:
        if key not in PREPROCESSING:
            raise _unknown(path, f"preprocessing.{key}", PREPROCESSING)
    return {PREPROCESSING[key]: _word(path, key, value) for key, value in table.items()}


def _shapes(path: Path, key: str, value: object) -> list[str]:
    """NAME:1x3 for each of a table of lists; a list of such words is taken as it is."""
    if isinstance(value, dict):
        return [
            f"{name}:{_word(path, f'{key}.{name}', shape, joint='x')}"
            for name, shape in value.items()
        ]
    items = value if isinstance(value, list) else [value]
    return [str(_word(path, key, item)) for item in items]


def _word(path: Path, key: str, value: object, joint: str = ",") -> str | bool:
    if isinstance(value, list):
        return joint.join(str(_word(path, key, item)) for item in value)
    if isinstance(value, bool | str):
        return value
    if isinstance(value, int | float):
        return str(value)
    kind = "table" if isinstance(value, dict) else type(value).__name__
    raise UsageError(f"{path}: {key} is a {kind}; give a number, a text, or a list of numbers")


def _unknown(path: Path, key: str, known: tuple[str, ...] | Mapping[str, str]) -> UsageError:
    return UsageError(f"{path}: unknown key {key!r}; known keys: {', '.join(sorted(known))}")


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        # A JSON string is a TOML string, but for DEL, which TOML wants escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return repr(value)
