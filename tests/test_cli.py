"""The command line as people and scripts meet it: output, streams, errors and exit codes."""

import json
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import pytest

from crespr_onnx import cli

ROOT = Path(__file__).resolve().parents[1]
DIGITS = str(ROOT / "samples/digits/digits.onnx")
PROGRAM = [sys.executable, "-m", "crespr_onnx"]
COMPRESS_HELP = "see crespr-onnx compress --help\n"


def linear(path: Path, seed: int = 0, scale: float = 1.0, output: str = "y") -> str:
    """A model of one layer, 4 -> 3, on disk."""
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N, 4] x) => (float[N, 3] '
        f"{output}) {{[layer] {output} = MatMul(x, w)}}"
    )
    weight = np.random.default_rng(seed).standard_normal((4, 3)).astype(np.float32) * scale
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    onnx.save(model, path)
    return str(path)


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command in this process: exit code, stdout, stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = cli.run(arguments)
        return (code, *capsys.readouterr())

    return run


# ---- help and version


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


# ---- targets


def test_targets(call: Any) -> None:
    assert call("targets") == (
        0,
        "onnx  any ONNX runtime: the model is shrunk, nothing is compiled\n"
        "cpu   the CPU of this machine, through TVM\n",
        "",
    )


def test_targets_as_json(call: Any) -> None:
    code, out, err = call("targets", "--json")
    assert (code, err) == (0, "")
    assert [(t["name"], t["compiles"]) for t in json.loads(out)["targets"]] == [
        ("onnx", False),
        ("cpu", True),
    ]


# ---- inspect


def test_inspect_digits(call: Any) -> None:
    code, out, err = call("inspect", DIGITS)
    assert (code, err) == (0, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[0] == f"{DIGITS}: 364.5 kB, opset 17"
    assert "inputs: input: float32[batch,1,8,8]" in lines
    assert "89,632 weights in 5 layers, 1,821,952 MACs per sample" in lines
    assert (
        "at most 0.9995 of the weights can go; layers can be split into at most 8 clusters" in lines
    )
    assert (
        "/conv2/Conv │ Conv │ 32 -> 64 x9 │ 18,432 │ 20.6% │ 1,179,648 │ split, up to 4 clusters"
        in lines
    )
    assert "logits │ 10 │ keep: 'logits' is a graph output" in lines
    assert "\x1b" not in out


def test_inspect_digits_as_json(call: Any) -> None:
    code, out, err = call("inspect", DIGITS, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["path"], found["weights"], found["max_clusters"]) == (DIGITS, 89_632, 8)
    assert [layer["verdict"] for layer in found["layers"]] == ["shrink", *["split"] * 3, "shrink"]
    assert found["obstacles"] == []


def test_inspect_what_cannot_be_compressed(call: Any, tmp_path: Path) -> None:
    code, out, _ = call("inspect", linear(tmp_path / "m.onnx"))
    assert code == 0
    assert "nothing in it can be compressed\n" in out
    assert "stays dense: 'x' is a graph input; 'y' is a graph output" in " ".join(out.split())


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


# ---- verify


def test_verify_equal(call: Any, tmp_path: Path) -> None:
    a, b = linear(tmp_path / "a.onnx"), linear(tmp_path / "b.onnx")
    assert call("verify", a, b, "--cases", "2") == (
        0,
        "equal: 2 cases, largest difference 0 absolute, 0 relative\n",
        "",
    )


def test_verify_equal_as_json(call: Any, tmp_path: Path) -> None:
    a, b = linear(tmp_path / "a.onnx"), linear(tmp_path / "b.onnx")
    code, out, err = call("verify", a, b, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == {
        "cases": 3,
        "max_abs_diff": 0.0,
        "max_rel_diff": 0.0,
        "tolerance": 1e-4,
        "passed": True,
        "worst": "y",
        "reason": None,
    }


def test_verify_unequal(call: Any, tmp_path: Path) -> None:
    a, b = linear(tmp_path / "a.onnx"), linear(tmp_path / "b.onnx", scale=1.25)
    code, out, err = call("verify", a, b)
    assert (code, out) == (7, "")
    assert err.startswith("error: output 'y' differs by 0.25 relative to its largest value (")
    assert err.endswith(" in 3 cases; at most 0.0001 is allowed\n")
    assert err.count("\n") == 1
    code, out, same = call("verify", a, b, "--json")
    assert (code, same) == (7, err)
    found = json.loads(out)
    assert found["passed"] is False
    assert f"error: {found['reason']}\n" == err


def test_verify_takes_tolerances(call: Any, tmp_path: Path) -> None:
    a, b = linear(tmp_path / "a.onnx"), linear(tmp_path / "b.onnx", scale=1.25)
    assert call("verify", a, b, "--rtol", "0.26")[0] == 0
    assert call("verify", a, b, "--rtol", "0", "--atol", "100")[0] == 0


def test_verify_other_interface(call: Any, tmp_path: Path) -> None:
    a, b = linear(tmp_path / "a.onnx"), linear(tmp_path / "b.onnx", output="z")
    reason = (
        "the outputs differ: y in the reference, z in the other model; "
        "names and order must be the same"
    )
    assert call("verify", a, b) == (7, "", f"error: {reason}\n")
    code, out, err = call("verify", a, b, "--json")
    assert (code, err) == (7, f"error: {reason}\n")
    assert json.loads(out) == {"passed": False, "reason": reason}


def test_verify_shapes_of_dynamic_inputs(call: Any, tmp_path: Path) -> None:
    text = (
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N, T] x) => (float[N, T] y) '
        "{y = Relu(x)}"
    )
    path = str(tmp_path / "m.onnx")
    onnx.save(onnx.parser.parse_model(text), path)
    code, _, err = call("verify", path, path)
    assert code == 2
    assert "fix it with --input-shape x:1xN, a number for each N" in err
    assert call("verify", path, path, "--input-shape", "x:1x7")[0] == 0


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--rtol", "-1", "--rtol is -1.0; it must be 0 or more"),
        ("--atol", "nan", "--atol is nan; it must be 0 or more"),
        ("--cases", "0", "--cases is 0; it must be at least 1"),
        ("--seed", "-1", "--seed is -1; it must be 0 or more"),
    ],
)
def test_verify_usage(call: Any, option: str, value: str, message: str) -> None:
    assert call("verify", "a.onnx", "b.onnx", option, value) == (2, "", f"error: {message}\n")


# ---- errors of usage


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["shrink"], "error: No such command 'shrink'.\nsee crespr-onnx --help\n"),
        (
            ["targets", "x"],
            "error: Got unexpected extra argument (x)\nsee crespr-onnx targets --help\n",
        ),
        (["inspect"], "error: Missing argument 'IN.onnx'.\nsee crespr-onnx inspect --help\n"),
        (["compress", "m.onnx"], f"error: Missing option '--ratio'.\n{COMPRESS_HELP}"),
        (
            ["compress", "m.onnx", "--ratio", "most"],
            f"error: Invalid value for '--ratio': 'most' is not a valid float.\n{COMPRESS_HELP}",
        ),
        (
            ["compress", "m.onnx", "--ratio", ".9", "--epochs", "1.5"],
            f"error: Invalid value for '--epochs': '1.5' is not a valid integer.\n{COMPRESS_HELP}",
        ),
        (
            ["compress", "m.onnx", "--ratio", ".9", "--clusters", "many"],
            "error: Invalid value for '--clusters': 'many' is neither auto nor a whole number\n"
            + COMPRESS_HELP,
        ),
        (
            ["compress", "m.onnx", "--ratio", ".9", "--image-mean", ".5,x"],
            "error: Invalid value for '--image-mean': '.5,x' is not a number, nor several with "
            f"commas between them\n{COMPRESS_HELP}",
        ),
        (
            ["compress", "m.onnx", "--ratio", ".9", "--input-shape", "x:1x0"],
            "error: Invalid value for '--input-shape': 'x:1x0' is not of the form "
            f"NAME:1x3x224x224\n{COMPRESS_HELP}",
        ),
        (
            ["compress", "m.onnx", "--ratio", ".9", "--data", ""],
            "error: Invalid value for '--data': it is empty; is a variable of your script not "
            f"set?\n{COMPRESS_HELP}",
        ),
        (
            ["compress", "m\udcff.onnx", "--ratio", ".9"],
            "error: Invalid value for 'IN.onnx': 'm\\udcff.onnx' is not UTF-8; rename it\n"
            + COMPRESS_HELP,
        ),
        (
            ["compress", "m.onnx", "--ratio", "1.5"],
            "error: --ratio is 1.5; it must be between 0 and 1: 0.98 keeps 2% of the weights\n",
        ),
        (
            ["compress", "m.onnx", "--ratio", ".9", "--criterion", "random"],
            "error: --criterion is random; it must be one of magnitude, taylor\n",
        ),
        (
            ["compress", "m.onnx", "--ratio", ".9", "--target", "cuda"],
            "error: unknown target 'cuda'; known targets: cpu, onnx\n",
        ),
        (
            ["compress", "m.onnx", "--ratio", ".9", "--image-mean", "0"],
            "error: --image-std is missing; --image-mean and --image-std go together\n",
        ),
        (
            ["compress", "m.onnx", "--ratio", ".9", "--resume", "--force"],
            "error: --force starts over and --resume goes on; give one of them\n",
        ),
    ],
)
def test_usage(call: Any, arguments: list[str], message: str) -> None:
    assert call(*arguments) == (2, "", message)


def test_a_misspelt_option_gets_a_proposal(call: Any) -> None:
    code, out, err = call("compress", "m.onnx", "--ration", "0.9")
    assert (code, out) == (2, "")
    assert err.startswith("error: No such option")
    assert "--ratio" in err


def test_a_wrong_value_in_the_config_file_says_where_it_is(call: Any, tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("epochs = 2.5\n")
    where = "(in the file given by --config)"
    assert call("compress", "m.onnx", "--ratio", ".9", "--config", str(path)) == (
        2,
        "",
        f"error: Invalid value for '--epochs': '2.5' is not a valid integer. {where}\n"
        + COMPRESS_HELP,
    )
    given = ("compress", "m.onnx", "--ratio", "x", "--epochs", "1", "--config", str(path))
    assert where not in call(*given)[2]


def test_an_unknown_key_in_the_config_file(call: Any, tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("epoch = 2\n")
    code, out, err = call("compress", "m.onnx", "--config", str(path))
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {path}: unknown key 'epoch'; known keys: batch_size, clusters,")
    assert err.count("\n") == 1


# ---- errors of model and data, by way of the pipeline


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
    assert lines[-1].startswith("89,632 weights would become ")
    assert lines[-1].endswith(", 0.9 requested. Nothing was written.")
    assert list(tmp_path.iterdir()) == []


# ---- errors of our own


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that fails as no command should."""

    @click.command("broken")
    @click.pass_obj
    @click.option("--debug", is_flag=True)
    def command(session: Any, /, debug: bool) -> None:
        session.debug = debug
        raise ZeroDivisionError("one line\nand another")

    monkeypatch.setitem(cli.cli.commands, "broken", command)


@pytest.mark.usefixtures("broken")
def test_an_unexpected_error_is_one_line(call: Any) -> None:
    assert call("broken") == (
        1,
        "",
        "error: unexpected ZeroDivisionError: one line and another; "
        "run again with --debug for the traceback\n",
    )


@pytest.mark.usefixtures("broken")
def test_debug_shows_the_traceback(call: Any) -> None:
    code, out, err = call("broken", "--debug")
    assert (code, out) == (1, "")
    assert err.startswith("Traceback (most recent call last):\n")
    assert err.endswith("\nerror: unexpected ZeroDivisionError: one line and another\n")


def test_debug_shows_where_a_refusal_comes_from(call: Any, tmp_path: Path) -> None:
    code, out, err = call("inspect", str(tmp_path / "m.onnx"), "--debug")
    assert (code, out) == (3, "")
    assert "Traceback" in err
    assert "in load_model" in err
    assert err.endswith("no such file; give the path of an .onnx model\n")


def test_a_reader_that_has_gone_is_no_traceback() -> None:
    command = [*PROGRAM, "targets"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert run.stdout is not None
    run.stdout.close()
    assert run.stderr is not None
    assert (run.wait(timeout=60), run.stderr.read()) == (1, b"")
    run.stderr.close()
