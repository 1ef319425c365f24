"""`crespr-onnx verify`."""

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from command_line import linear


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
