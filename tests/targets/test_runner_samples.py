"""The build lines of samples/runners build, and what they build runs."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from board_models import answers, check_close, random_sample, require_emulation, write_net

from crespr_onnx.targets import find_target
from crespr_onnx.targets.compile import compile_model
from crespr_onnx.targets.emulate import tvm_ffi_headers
from crespr_onnx.targets.system import emulator

SAMPLES = Path(__file__).resolve().parents[2] / "samples" / "runners"


def build_line(compiler: str) -> str:
    """The command of the README that starts with a compiler, continued lines joined."""
    text = (SAMPLES / "README.md").read_text("utf-8").replace("\\\n", " ")
    (line,) = re.findall(rf"^    ({re.escape(compiler)} .*)$", text, re.MULTILINE)
    return line


@pytest.mark.parametrize(
    ("target", "compiler", "library"),
    [
        ("arm64", "aarch64-linux-gnu-g++", ["out/model.so"]),
        ("armv7", "arm-linux-gnueabihf-gcc", []),
    ],
)
def test_the_build_line_builds_a_runner(tmp_path, target, compiler, library):
    require_emulation(target)
    system = find_target(target).system
    assert system is not None
    model = write_net("mlp", tmp_path)
    compile_model(model, tmp_path / "out", find_target(target), {"x": (1, 40)})
    for name in ("run.cc", "run.c", "npy.h"):
        (tmp_path / name).write_bytes((SAMPLES / name).read_bytes())
    (headers,) = tvm_ffi_headers()
    environment = {"HEADERS": str(headers), "PATH": "/usr/bin:/bin"}
    subprocess.run(build_line(compiler), shell=True, cwd=tmp_path, env=environment, check=True)
    sample = random_sample(model, 5)
    np.save(tmp_path / "x.npy", sample["x"])
    program = [str(emulator(system)), "-L", str(system.sysroot), "out/run", *library, "x.npy"]
    command = [*program, "-o", "answer", "-n", "3"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    expected = answers(model, sample)
    found = {name: np.load(tmp_path / f"answer{i}.npy") for i, name in enumerate(expected)}
    check_close(found, expected)
    lines = done.stdout.splitlines()
    assert [line.split(":")[0].split(",")[0] for line in lines[:2]] == ["output 0", "output 1"]
    assert "[1, 6]" in lines[0]
    assert re.fullmatch(r"(median|mean) of 3 runs: \d+\.\d+ ms", lines[2])


def test_headers_are_where_the_readme_looks_for_them():
    code = "import tvm_ffi; print(tvm_ffi.__path__[0])"
    assert shlex.quote(code) in (SAMPLES / "README.md").read_text("utf-8")
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [Path(found.stdout.strip()) / "include"] == list(tvm_ffi_headers())
