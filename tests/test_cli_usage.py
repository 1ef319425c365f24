"""Wrong commands: one or two lines, exit code 2."""

from pathlib import Path
from typing import Any

import pytest
from command_line import COMPRESS_HELP


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
            "error: --criterion is random; it must be one of magnitude, taylor, hessian, lrp\n",
        ),
        (
            ["compress", "m.onnx", "--ratio", ".9", "--target", "gpu"],
            "error: unknown target 'gpu'; known targets: arm64, armv7, cpu, cuda, onnx\n",
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
