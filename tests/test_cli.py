"""The command line as people and scripts meet it: help, and the small commands."""

import json
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from command_line import DIGITS, PROGRAM, linear

from crespr_onnx import cli


def test_help_comes_quickly() -> None:
    start = time.perf_counter()
    run = subprocess.run([*PROGRAM, "--help"], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith("Usage: crespr-onnx [OPTIONS] COMMAND [ARGS]...")
    assert seconds < 1.0


def test_the_console_script_is_this_program() -> None:
    script = Path(sys.executable).with_name("crespr-onnx")
    run = subprocess.run([script, "--version"], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, f"crespr-onnx {version('crespr-onnx')}\n")


@pytest.mark.parametrize("command", ["compress", "inspect", "verify", "targets"])
def test_help_of_a_command(call: Any, command: str) -> None:
    code, out, err = call(command, "-h")
    assert (code, err) == (0, "")
    assert out.startswith(f"Usage: crespr-onnx {command} [OPTIONS]")


def test_without_a_command_the_help_is_an_error(call: Any) -> None:
    code, out, err = call()
    assert (code, out) == (2, "")
    assert err.startswith("Usage: crespr-onnx")


def test_main_ends_the_process(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        cli.main(["--version"])
    assert done.value.code == 0
    assert capsys.readouterr().out == f"crespr-onnx {version('crespr-onnx')}\n"


def test_targets(call: Any) -> None:
    assert call("targets") == (
        0,
        "onnx   any ONNX runtime: the model is shrunk, nothing is compiled\n"
        "cpu    the CPU of this machine, through TVM\n"
        "arm64  64-bit ARM boards with Linux, through TVM\n"
        "       arm64:CORE for one of generic, cortex-a53, cortex-a55, cortex-a72, cortex-a76, "
        "cortex-a78,\n"
        "         neoverse-n1, neoverse-v1\n"
        "armv7  32-bit ARM boards with NEON, as a static library in plain C\n"
        "       armv7:CORE for one of cortex-a7, cortex-a8, cortex-a9, cortex-a15, cortex-a17\n"
        "cuda   CUDA devices, through TVM; alone it means sm_87 (Jetson Orin)\n"
        "       cuda:CAPABILITY for one of sm_75, sm_80, sm_86, sm_87, sm_89, sm_90, sm_100, "
        "sm_110, sm_120,\n"
        "         sm_121\n",
        "",
    )


def test_targets_as_json(call: Any) -> None:
    code, out, err = call("targets", "--json")
    assert (code, err) == (0, "")
    assert [(t["name"], t["compiles"]) for t in json.loads(out)["targets"]] == [
        ("onnx", False),
        ("cpu", True),
        ("arm64", True),
        ("armv7", True),
        ("cuda", True),
    ]


def test_inspect_digits(call: Any) -> None:
    code, out, err = call("inspect", DIGITS)
    assert (code, err) == (0, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[0] == f"{DIGITS}: 364.5 kB, opset 17"
    assert "inputs: input: float32[batch,1,8,8]" in lines
    assert "89,632 weights in 5 layers, 1,821,952 MACs per sample" in lines
    assert (
        "at most 0.9995 of the weights and 0.9992 of the MACs can go; layers can be split into at "
        "most 32 clusters" in lines
    )
    assert (
        "/conv2/Conv │ Conv │ 32 -> 64 x9 │ 18,432 │ 20.6% │ 1,179,648 │ split, up to 8 clusters"
        in lines
    )
    assert "logits │ 10 │ keep: 'logits' is a graph output" in lines
    assert "\x1b" not in out


def test_inspect_digits_as_json(call: Any) -> None:
    code, out, err = call("inspect", DIGITS, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["path"], found["weights"], found["max_clusters"]) == (DIGITS, 89_632, 32)
    assert [layer["verdict"] for layer in found["layers"]] == ["shrink", *["split"] * 3, "shrink"]
    assert found["obstacles"] == []


def test_inspect_what_cannot_be_compressed(call: Any, tmp_path: Path) -> None:
    code, out, _ = call("inspect", linear(tmp_path / "m.onnx", inputs=3))
    assert code == 0
    assert "nothing in it can be compressed\n" in out
    assert "stays dense: 'y' is a graph output; it has fewer than 4 inputs" in " ".join(out.split())


def test_inspect_names_what_is_not_understood(call: Any, tmp_path: Path) -> None:
    model = onnx.load(linear(tmp_path / "m.onnx"))
    model.graph.node[0].output[0] = "a"
    sort = onnx.helper.make_node("CumSum", ["a", "axis"], ["y"], "sum\x1b[31m")
    model.graph.node.append(sort)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(1), "axis"))
    onnx.save(model, tmp_path / "m.onnx")
    code, out, _ = call("inspect", str(tmp_path / "m.onnx"))
    assert code == 0
    assert out.endswith(
        "not understood, so that their neighbours stay dense:\n"
        "  CumSum 'sum\\x1b[31m': no rule for this operator\n"
    )
