"""Holds who may import whom: the rooms of the library, low to high.

A room is a set of modules (a package stands for all that is in it), the rooms whose modules they
may import besides their own, and the packages from outside that they may import besides Python's
own and NumPy. Imports inside functions and under TYPE_CHECKING count as well.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAX_LINES = 300


@dataclass(frozen=True)
class Room:
    modules: frozenset[str]
    may_import: frozenset[str]
    packages: frozenset[str]


def room(modules: str, may_import: str, packages: str) -> Room:
    names = frozenset(f"crespr_onnx.{name}" for name in modules.split())
    return Room(names, frozenset(may_import.split()), frozenset(packages.split()))


ROOMS = {
    "leaves": room(
        "cache_folder errors layout layout_json named_function processes progress record "
        "tuning_record",
        "",
        "",
    ),
    "graph": room("graph data files", "leaves", "google onnx onnx_ir onnxruntime PIL"),
    "settings": room("config settings settings_check", "leaves graph", ""),
    "passes": room("passes", "leaves", "onnx_ir onnxscript"),
    "training": room(
        "training",
        "leaves graph passes",
        "accelerate onnx onnx2torch onnx_ir safetensors scipy torch",
    ),
    "targets": room("targets", "leaves graph passes", "cuda onnx onnx_ir onnxruntime tvm tvm_ffi"),
    "report": room("report", "leaves graph", "jinja2 rich"),
    "stages": room(
        "stages", "leaves graph settings passes training targets report", "onnx onnx_ir torch"
    ),
    "bench": room(
        "bench", "leaves graph settings passes targets report stages", "onnx_ir matplotlib"
    ),
    "forms": room("forms", "leaves graph settings passes targets stages", "onnx_ir scipy"),
    "pipeline": room(
        "compiling delivery inspection pipeline",
        "leaves graph settings passes training targets report stages forms",
        "onnx onnx_ir",
    ),
    "cli": room(
        "__main__ cli commands terminal",
        "leaves graph settings passes training targets report stages bench pipeline",
        "click rich",
    ),
}


def module_files() -> dict[str, Path]:
    """Every module of the library by its name; passes and targets live at the top level."""
    files = {}
    for package in ("crespr_onnx", "crespr_onnx.passes", "crespr_onnx.targets"):
        folder = ROOT / package.rpartition(".")[2]
        for path in sorted(folder.rglob("*.py")):
            inner = path.relative_to(folder)
            if package == "crespr_onnx" and inner.parts[0] in ("passes", "targets"):
                continue
            parts = [package, *inner.with_suffix("").parts]
            files[".".join(parts).removesuffix(".__init__")] = path
    return files


FILES = module_files()


def imports_of(module: str, source: str, is_package: bool) -> Iterator[str]:
    """Full names that a module imports, each of a from-import on its own."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                home = parts[: len(parts) - node.level + is_package]
                base = ".".join([*home, base] if base else home)
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            # importlib.import_module("torch") and __import__("torch").
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if name in ("import_module", "__import__"):
                yield str(node.args[0].value)


def room_of(name: str) -> str | None:
    """The room of a module, or of a name in a module."""
    for title, entry in ROOMS.items():
        if any(name == module or name.startswith(f"{module}.") for module in entry.modules):
            return title
    return None


def offence(module: str, imported: str) -> str | None:
    """Why a module may not import a name, or None if it may."""
    home = room_of(module)
    if home is None or not imported:
        return None
    top = imported.partition(".")[0]
    if top != "crespr_onnx":
        allowed = ROOMS[home].packages | sys.stdlib_module_names | {"numpy"}
        return None if top in allowed else f"{module} ({home}) imports {imported}"
    there = room_of(imported)
    if there is None and imported in ("crespr_onnx", "crespr_onnx.__version__"):
        return None
    allowed_rooms = ROOMS[home].may_import | {home}
    return None if there in allowed_rooms else f"{module} ({home}) imports {imported} ({there})"


@pytest.mark.parametrize("module", sorted(FILES.keys() - {"crespr_onnx"}))
def test_every_module_has_a_room(module: str) -> None:
    assert room_of(module) is not None, f"{module} is in none of ROOMS"


@pytest.mark.parametrize("module", sorted(FILES))
def test_imports_follow_the_arrows(module: str) -> None:
    path = FILES[module]
    names = imports_of(module, path.read_text(encoding="utf-8"), path.name == "__init__.py")
    assert [found for name in names if (found := offence(module, name))] == []


@pytest.mark.parametrize("module", sorted(FILES))
def test_files_stay_short(module: str) -> None:
    lines = len(FILES[module].read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"{module} has {lines} lines; a file holds one idea"


def test_rooms_form_no_circle() -> None:
    """Each room imports only from rooms above it in the literal, so the literal is an order."""
    titles = list(ROOMS)
    for i, entry in enumerate(ROOMS.values()):
        assert entry.may_import <= set(titles[:i])


@pytest.mark.parametrize("name", ["passes", "targets"])
def test_top_level_rooms_are_linked_into_the_package(name: str) -> None:
    link = ROOT / "crespr_onnx" / name
    assert link.is_symlink()
    assert link.readlink() == Path("..") / name


def test_the_command_line_starts_without_the_heavy_packages() -> None:
    heavy = ["torch", "accelerate", "tvm", "onnx", "onnxruntime", "onnx_ir", "onnx2torch", "scipy"]
    code = (
        "import sys, crespr_onnx, crespr_onnx.cli, crespr_onnx.targets\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "[]\n", "")


@pytest.mark.parametrize(
    ("source", "is_package", "expected"),
    [
        ("import torch.nn as nn", False, ["torch.nn"]),
        ("from torch import nn, Tensor", False, ["torch.nn", "torch.Tensor"]),
        ("from . import forms", False, ["crespr_onnx.passes.forms"]),
        ("from .forms import FORMS", True, ["crespr_onnx.passes.split.forms.FORMS"]),
        ("from ..layout import Layout", True, ["crespr_onnx.passes.layout.Layout"]),
        ("from ..layout import Layout", False, ["crespr_onnx.layout.Layout"]),
        ("def f():\n    import tvm", False, ["tvm"]),
        ("import importlib\nimportlib.import_module('tvm')", False, ["importlib", "tvm"]),
        ("__import__('torch')", False, ["torch"]),
    ],
)
def test_imports_are_found(source: str, is_package: bool, expected: list[str]) -> None:
    assert list(imports_of("crespr_onnx.passes.split", source, is_package)) == expected


@pytest.mark.parametrize(
    ("module", "imported", "found"),
    [
        ("crespr_onnx.passes.split", "torch.nn", r"split \(passes\) imports torch\.nn"),
        ("crespr_onnx.passes.split", "crespr_onnx.graph.load", r"\(passes\) imports .* \(graph\)"),
        ("crespr_onnx.passes.split", "crespr_onnx.targets.TARGETS", r" \(targets\)"),
        ("crespr_onnx.targets.cpu", "torch", "imports torch"),
        ("crespr_onnx.training.loop", "tvm.relax", "imports tvm.relax"),
        ("crespr_onnx.training.loop", "crespr_onnx.pipeline.compress", r"\(pipeline\)"),
        ("crespr_onnx.layout", "crespr_onnx.elsewhere", r"\(None\)"),
        ("crespr_onnx.pipeline", "crespr_onnx.cli.main", r"\(cli\)"),
    ],
)
def test_wrong_arrows_are_found(module: str, imported: str, found: str) -> None:
    with pytest.raises(ValueError, match=found):
        raise ValueError(offence(module, imported))


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("crespr_onnx.passes.split", "crespr_onnx.layout.Layout"),
        ("crespr_onnx.passes.split", "crespr_onnx.passes.forms.FORMS"),
        ("crespr_onnx.passes.split", "numpy.typing.NDArray"),
        ("crespr_onnx.targets.cpu", "tvm.relax"),
        ("crespr_onnx.cli", "crespr_onnx.pipeline.compress"),
    ],
)
def test_right_arrows_pass(module: str, imported: str) -> None:
    assert offence(module, imported) is None
