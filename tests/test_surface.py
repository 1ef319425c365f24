"""Freezes what others rely on. A change here is a change for everybody: say so in CHANGELOG.md."""

import inspect
import subprocess
import sys

import click
import pytest

import crespr_onnx
from crespr_onnx import cli, errors
from crespr_onnx.settings_check import CRITERIA, FORMS, NUMBER_FORMATS
from crespr_onnx.targets import TARGETS

NAMES = [
    "AccuracyGateError",
    "CompileError",
    "CompressSettings",
    "CresprError",
    "DataError",
    "ImageOptions",
    "ModelError",
    "SpeedGateError",
    "UsageError",
    "VerificationError",
    "__version__",
    "compress",
    "find_channels",
    "inspect_model",
    "load_model",
    "plan",
    "verify",
]

COMMANDS = {
    "compress": {
        "model": None,
        "--ratio": None,
        "--mac-ratio": None,
        "--target": "onnx",
        "--data": None,
        "--eval-data": None,
        "-o/--output": None,
        "--image-mean": None,
        "--image-std": None,
        "--image-scale": 255.0,
        "--criterion": "magnitude",
        "--clusters": "auto",
        "--epochs": 15,
        "--batch-size": 128,
        "--lr": 0.01,
        "--loss": None,
        "--patience": None,
        "--precision": "auto",
        "--number-format": "float32",
        "--max-drop": 0.05,
        "--min-speedup": 1.0,
        "--tune": 0,
        "--tuning-records": None,
        "--rpc": None,
        "--form": "auto",
        "--input-shape": None,
        "--threads": None,
        "--seed": 0,
        "--resume": False,
        "--force": False,
        "--config": None,
        "--dry-run": False,
        "--json": False,
        "--quiet": False,
        "--debug": False,
    },
    "inspect": {"model": None, "--json": False, "--debug": False},
    "verify": {
        "reference": None,
        "other": None,
        "--rtol": 1e-4,
        "--atol": 1e-5,
        "--cases": 3,
        "--seed": 0,
        "--input-shape": None,
        "--json": False,
        "--debug": False,
    },
    "bench": {
        "paths": None,
        "--dense": None,
        "--data": None,
        "--batch": (1, 8),
        "--threads": (1, 0),
        "--repeats": 21,
        "--min-speedup": None,
        "--rpc": None,
        "--plot": None,
        "-o/--output": None,
        "--input-shape": None,
        "--json": False,
        "--quiet": False,
        "--debug": False,
    },
    "targets": {"--fetch": None, "--json": False, "--debug": False},
}

EXIT_CODES = {
    "CresprError": 1,
    "UsageError": 2,
    "ModelError": 3,
    "DataError": 4,
    "AccuracyGateError": 5,
    "SpeedGateError": 6,
    "VerificationError": 7,
    "CompileError": 8,
}


def option_names(parameter: click.Parameter) -> str:
    return "/".join(parameter.opts) if isinstance(parameter, click.Option) else str(parameter.name)


def test_public_names() -> None:
    assert crespr_onnx.__all__ == sorted(NAMES)
    assert set(NAMES) <= set(dir(crespr_onnx))


@pytest.mark.parametrize("name", NAMES)
def test_public_names_are_what_they_are_called(name: str) -> None:
    value = getattr(crespr_onnx, name)
    assert isinstance(value, str) if name == "__version__" else value.__name__ == name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'crespr_onnx' has no attribute 'train'"):
        _ = crespr_onnx.train


def test_importing_the_package_imports_nothing_else() -> None:
    code = (
        "import sys, crespr_onnx; print([m for m in sys.modules if m.startswith('crespr_onnx.')])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


def test_commands() -> None:
    assert list(cli.cli.commands) == ["compress", "inspect", "verify", "bench", "targets"]


@pytest.mark.parametrize("command", COMMANDS)
def test_options_and_their_defaults(command: str) -> None:
    parameters = {}
    for parameter in cli.cli.commands[command].params:
        default = parameter.to_info_dict().get("default") if parameter.name != "help" else None
        parameters[option_names(parameter)] = default
    assert parameters == COMMANDS[command]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_has_examples_and_describes_every_option(command: str) -> None:
    found = cli.cli.commands[command]
    assert f"crespr-onnx {command}" in str(found.help).partition("Examples:")[2]
    options = [p for p in found.params if isinstance(p, click.Option)]
    assert [o.name for o in options if not o.help] == []


def test_exit_codes() -> None:
    classes = {
        name: value.exit_code
        for name, value in inspect.getmembers(errors, inspect.isclass)
        if issubclass(value, errors.CresprError)
    }
    assert classes == EXIT_CODES
    assert (cli.UNEXPECTED, cli.INTERRUPTED) == (1, 130)


def test_the_help_names_every_exit_code() -> None:
    codes = cli.HELP.partition("Exit codes:")[2]
    assert [f"{code} " in codes for code in (0, *range(2, 9), 130)] == [True] * 9


def test_targets() -> None:
    assert list(TARGETS) == ["onnx", "cpu", "arm64", "armv7", "cuda"]


def test_criteria_and_forms() -> None:
    from crespr_onnx.training.criteria import CRITERIA as IMPLEMENTED

    assert tuple(IMPLEMENTED) == CRITERIA == ("magnitude", "taylor", "hessian", "lrp")
    assert FORMS == ("auto", "grouped", "separate")
    assert NUMBER_FORMATS == ("float32", "float16", "int8")
