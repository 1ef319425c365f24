"""A worker that dies, hangs or fails becomes a CompileError of one or two lines."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from crespr_onnx.errors import CompileError
from crespr_onnx.targets.check import run_artefact
from crespr_onnx.targets.process import signal_name

MANIFEST = {
    "library": "model.so",
    "threads": 1,
    "inputs": [{"name": "x", "shape": [1], "dtype": "float32"}],
    "outputs": [{"name": "y", "shape": [1], "dtype": "float32"}],
}
INPUTS = {"x": np.zeros(1, np.float32)}


def fake_artefact(folder: Path, on_load: str) -> Path:
    """A library that does something as soon as it is loaded."""
    (folder / "artefact.json").write_text(json.dumps(MANIFEST))
    source = folder / "model.c"
    headers = "#include <signal.h>\n#include <unistd.h>\n#include <stdlib.h>\n"
    source.write_text(headers + "__attribute__((constructor)) void f(void) {" + on_load + "}\n")
    library = str(folder / "model.so")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, str(source)], check=True)
    return folder


def test_crash_is_reported_with_its_signal(tmp_path):
    folder = fake_artefact(tmp_path, "raise(SIGSEGV);")
    with pytest.raises(CompileError, match="that was to run the artefact died of SIGSEGV"):
        run_artefact(folder, INPUTS)


def test_hanging_worker_is_stopped(tmp_path):
    folder = fake_artefact(tmp_path, "for (;;) sleep(1);")
    with pytest.raises(CompileError, match="did not end within 5 s and was stopped"):
        run_artefact(folder, INPUTS, timeout=5)


def test_failing_worker_is_quoted(tmp_path):
    folder = fake_artefact(tmp_path, "")
    (folder / "artefact.json").write_text("{}")
    with pytest.raises(CompileError, match="failed: KeyError: 'threads'"):
        run_artefact(folder, INPUTS)


def test_signal_names():
    assert [signal_name(11), signal_name(9), signal_name(200)] == [
        "SIGSEGV",
        "SIGKILL",
        "signal 200",
    ]
