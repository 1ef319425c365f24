"""`crespr-onnx compress` up to the pipeline: refusals, interrupts, plans."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from command_line import DIGITS, PROGRAM, linear

QUIET = ("compress", "--ratio", "0.5", "--quiet")


@pytest.mark.parametrize("command", [("inspect",), QUIET, (*QUIET, "--dry-run", "--json")])
def test_a_model_that_is_none(call: Any, tmp_path: Path, command: tuple[str, ...]) -> None:
    path = tmp_path / "m.onnx"
    missing = f"error: {path}: no such file; give the path of an .onnx model\n"
    assert call(*command, str(path)) == (3, "", missing)
    path.write_text("no model\n")
    other = f"error: {path}: is not an ONNX model; give an .onnx file\n"
    assert call(*command, str(path)) == (3, "", other)
    assert list(tmp_path.iterdir()) == [path]


def test_a_model_without_anything_to_prune(call: Any, tmp_path: Path) -> None:
    path = linear(tmp_path / "m.onnx")
    code, out, err = call(*QUIET, path)
    assert (code, out) == (3, "")
    assert err.startswith(f"error: {path}: no prunable operator: ")


def test_a_ratio_beyond_reach(call: Any) -> None:
    code, out, err = call("compress", DIGITS, "--quiet", "--ratio", "0.9999", "--epochs", "0")
    assert (code, out) == (3, "")
    assert err.startswith("error: --ratio 0.9999 is beyond what this model allows: at most 0.9995")


def test_training_needs_data(call: Any) -> None:
    code, out, err = call(*QUIET, DIGITS)
    assert (code, out) == (4, "")
    assert err.startswith("error: --epochs 15 needs --data that the model was trained on: ")


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes a data function into the working directory and names it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    def write(name: str, body: str) -> str:
        (tmp_path / f"{name}.py").write_text(f"def read():\n    {body}\n")
        return f"{name}:read"

    return write


def test_what_a_data_function_prints_is_no_result(call: Any, reader: Any) -> None:
    data = reader("reader_prints", "print('reading'); return 3")
    code, out, err = call("compress", DIGITS, "--ratio", "0.5", "--data", data, "--json")
    assert (code, out) == (4, "")
    assert "\nreading\n" in f"\n{err}"
    assert "\nerror: reader_prints:read" in err


def test_an_interrupted_run_says_how_to_go_on(call: Any, reader: Any) -> None:
    data = reader("reader_stops", "raise KeyboardInterrupt")
    command = (*QUIET, DIGITS, "--data", data)
    hint = "interrupted; the same command with --resume goes on from here\n"
    assert call(*command) == (130, "", hint)
    assert call(*command, "--dry-run") == (130, "", "interrupted\n")


def test_an_interrupt_from_the_keyboard(tmp_path: Path, reader: Any) -> None:
    data = reader("reader_waits", "import time; open('waiting', 'w').close(); time.sleep(60)")
    # A shell that started the tests in the background may have made them ignore the signal.
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    program = [sys.executable, "-c", f"{heed}; from crespr_onnx.cli import main; main()"]
    command = [*program, *QUIET, DIGITS, "--data", data, "--json"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path)
    deadline = time.monotonic() + 60
    while not (tmp_path / "waiting").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=60)
    assert (run.returncode, out) == (130, b"")
    assert err == b"interrupted; the same command with --resume goes on from here\n"


def test_a_plan_as_json_is_all_of_stdout(tmp_path: Path) -> None:
    command = [*PROGRAM, "compress", DIGITS, "--ratio", "0.9", "--epochs", "0"]
    run = subprocess.run(
        [*command, "--dry-run", "--json"], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    found = json.loads(run.stdout)
    assert (found["status"], found["ratio"]["requested"]) == ("ok", 0.9)
    assert found["ratio"]["weights_before"] == 89_632
    assert 0.9 <= found["ratio"]["physical"] < 0.91
    after = sum(layer["weights_after"] for layer in found["layers"])
    assert after == found["ratio"]["weights_after"]
    assert "importing PyTorch" in run.stderr
    assert "Warning" not in run.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_plan_as_text(call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command = ("compress", DIGITS, "--ratio", "0.9", "--epochs", "0", "--clusters", "1")
    code, out, err = call(*command, "--dry-run", "--quiet")
    assert (code, err) == (0, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[0].startswith("layer ┃ op ┃ weights ┃ after ┃ clusters ┃ form ┃ reason")
    assert lines[-2].startswith("89,632 weights would become ")
    assert lines[-2].endswith(", 0.9 requested.")
    assert lines[-1] == "Nothing was written."
    _, out, _ = call(*command, "--mac-ratio", "0.95", "--dry-run", "--quiet")
    *_, work, last = out.splitlines()
    assert work.startswith("1,821,952 multiply-accumulates would become ")
    assert 0.95 <= float(work.split(": ")[1].split(" saved, ")[0]) < 0.96
    assert work.endswith(" saved, 0.95 requested.")
    assert last == "Nothing was written."
    # Too much for allocations in which convolutions read all that is kept.
    assert call(*command, "--mac-ratio", "0.9992", "--dry-run", "--quiet")[0] == 0
    assert list(tmp_path.iterdir()) == []
