"""The config file: read into the words of the command line, written from settings, and back."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crespr_onnx.cli import cli
from crespr_onnx.commands.compress import compress
from crespr_onnx.commands.compress_options import SETTINGS, settings_from
from crespr_onnx.config import KEYS, read_config, to_table, to_toml
from crespr_onnx.data import ImageOptions
from crespr_onnx.errors import UsageError
from crespr_onnx.settings import CompressSettings

FULL = CompressSettings(
    model=Path('nets/in "é\\x.onnx'),
    ratio=0.98,
    target="cpu",
    data="train.npz",
    eval_data="readers:test",
    output=Path("out"),
    images=ImageOptions((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 1.0),
    criterion="taylor",
    clusters=8,
    mac_ratio=0.9,
    epochs=3,
    batch_size=64,
    lr=1e-5,
    loss="losses:mine",
    patience=4,
    precision="bf16",
    number_format="int8",
    max_drop=0.01,
    min_speedup=2.5,
    tune=16,
    tuning_records="tuning.jsonl",
    rpc="pi:9190/orin",
    form="separate",
    input_shapes={"a b:0": (1, 3, 224), "ids": (1,)},
    threads=2,
    seed=7,
)


def parse(*arguments: str) -> CompressSettings:
    """The settings of a command line."""
    # click keeps the names of the help option that a command is first used with.
    names = cli.context_settings["help_option_names"]
    context = compress.make_context("compress", list(arguments), help_option_names=names)
    options = context.params
    for name in ("dry_run", "as_json", "quiet"):
        del options[name]
    return settings_from(options)


@pytest.fixture
def config(tmp_path: Path) -> Any:
    def write(text: str) -> Path:
        path = tmp_path / "config.toml"
        path.write_text(text, "utf-8")
        return path

    return write


def test_options_keys_and_fields_agree() -> None:
    """Options without values are the settings without values: names and defaults are the same."""
    assert parse("m.onnx", "--ratio", "0.9") == CompressSettings(Path("m.onnx"), 0.9)
    options = {p.name for p in compress.params}
    assert options - set(KEYS) == {"config", "dry_run", "as_json", "quiet", "debug"}
    assert set(KEYS) <= options
    assert len(SETTINGS) == len(KEYS) - 1  # all but the model, which is an argument


def test_every_field_can_be_set_on_the_command_line() -> None:
    settings = parse(
        *(str(FULL.model), "--ratio", "0.98", "--target", "cpu", "--data", "train.npz"),
        *("--eval-data", "readers:test", "-o", "out", "--image-mean", ".485,.456,.406"),
        *("--image-std", ".229,.224,.225", "--image-scale", "1", "--criterion", "taylor"),
        *("--mac-ratio", "0.9"),
        *("--clusters", "8", "--epochs", "3", "--batch-size", "64", "--lr", "1e-5"),
        *("--loss", "losses:mine", "--patience", "4", "--precision", "bf16"),
        *("--number-format", "int8", "--max-drop", ".01", "--min-speedup", "2.5"),
        *("--tune", "16", "--tuning-records", "tuning.jsonl"),
        *("--rpc", "pi:9190/orin"),
        *("--form", "separate"),
        *("--input-shape", "a b:0:1x3x224", "--input-shape", "ids:1"),
        *("--threads", "2", "--seed", "7"),
    )
    assert settings == FULL
    defaults = CompressSettings(Path("m.onnx"), 0.9)
    same = [f.name for f in fields(FULL) if getattr(FULL, f.name) == getattr(defaults, f.name)]
    assert same == ["resume", "force"]


def test_flags() -> None:
    settings = parse("m.onnx", "--ratio", "0.9", "--resume", "--force")
    assert (settings.resume, settings.force) == (True, True)


def test_written_settings_are_read_back(config: Any) -> None:
    assert parse("--config", str(config(to_toml(FULL)))) == FULL


def test_written_defaults_are_read_back(config: Any) -> None:
    settings = CompressSettings(Path("m.onnx"), 0.5)
    assert parse("--config", str(config(to_toml(settings)))) == settings


@given(
    name=st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip),
    lr=st.floats(allow_nan=False),
    seed=st.integers(),
)
def test_any_text_and_number_survives(
    tmp_path_factory: pytest.TempPathFactory, name: str, lr: float, seed: int
) -> None:
    settings = CompressSettings(
        Path("m.onnx"), 0.5, data=name, lr=lr, seed=seed, input_shapes={name: (1, 2)}
    )
    path = tmp_path_factory.mktemp("any") / "config.toml"
    path.write_text(to_toml(settings), "utf-8", newline="")
    assert parse("--config", str(path)) == settings


def test_the_file_as_it_is_written() -> None:
    assert to_toml(CompressSettings(Path("m.onnx"), 0.5, input_shapes={"x": (1, 2)})) == (
        "# The settings of a run of crespr-onnx compress; --config takes them again.\n"
        'model = "m.onnx"\nratio = 0.5\ntarget = "onnx"\ncriterion = "magnitude"\n'
        'clusters = "auto"\nepochs = 15\nbatch_size = 128\nlr = 0.01\nprecision = "auto"\n'
        'number_format = "float32"\nmax_drop = 0.05\nmin_speedup = 1.0\ntune = 0\n'
        'form = "auto"\nseed = 0\n'
        '\n[input_shape]\n"x" = [1, 2]\n'
    )


def test_how_a_run_treats_its_folder_is_not_written() -> None:
    settings = CompressSettings(Path("m.onnx"), 0.5, resume=True, force=True)
    assert to_table(settings).keys().isdisjoint({"resume", "force"})


def test_the_command_line_wins(config: Any) -> None:
    path = config("model = 'a.onnx'\nratio = 0.5\nepochs = 3\nmax-drop = 0.2\nforce = true")
    settings = parse("b.onnx", "--epochs", "4", "--config", str(path))
    assert (settings.model, settings.ratio, settings.epochs) == (Path("b.onnx"), 0.5, 4)
    assert (settings.max_drop, settings.force) == (0.2, True)


def test_dashes_underscores_and_the_two_forms_of_shapes(config: Any) -> None:
    path = config(
        "eval-data = 'e.npz'\nbatch_size = 4\ninput-shape = ['x:0:1x3', 'y:2']\n"
        "[preprocessing]\nmean = 0.5\nstd = [1, 2, 3]\nscale = 128"
    )
    assert read_config(path) == {
        "eval_data": "e.npz",
        "batch_size": "4",
        "input_shape": ["x:0:1x3", "y:2"],
        "image_mean": "0.5",
        "image_std": "1,2,3",
        "image_scale": "128",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch = 3", r"config.toml: unknown key 'epoch'; known keys: batch_size, clusters, crit"),
        ("dry_run = true", r"unknown key 'dry_run'; known keys: .* tuning_records$"),
        ("[preprocessing]\nmena = 1", r"unknown key 'preprocessing.mena'; known keys: mean, scale"),
        ("preprocessing = 1", r"preprocessing must be a table with mean, std and scale"),
        ("lr = 1\nlr = 2\n", r"config.toml: not a TOML file: Cannot overwrite .*line 2"),
        ("max-drop = 1\nmax_drop = 1", r"config.toml: max_drop is given twice; give it once"),
        ("image_mean = 1\n[preprocessing]\nmean = 1", r"image_mean is given twice"),
        ("data = 2024-01-01", r"data is a date; give a number, a text, or a list of numbers"),
        ("[ratio]\nx = 1", r"ratio is a table; give a number, a text, or a list"),
    ],
)
def test_files_that_are_refused(config: Any, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_config(config(text))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none.toml: cannot be read: No such file or directory"):
        read_config(tmp_path / "none.toml")
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        read_config(tmp_path)
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match=r"b\.toml: not a TOML file: 'utf-8' codec"):
        read_config(tmp_path / "b.toml")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--image-mean", "0"],
            "^--image-std is missing; --image-mean and --image-std",
        ),
        (
            ["--image-std", "1"],
            "^--image-mean is missing; --image-mean and --image-std",
        ),
        (["--image-mean", "0,0", "--image-std", "1"], "^--image-mean is 0,0; give one number, or"),
        (["--image-mean", "0", "--image-std", "0"], "^--image-std is 0; it must be positive"),
        (["--input-shape", "x:1", "--input-shape", "x:2"], "^--input-shape names an input twice"),
    ],
)
def test_options_that_do_not_go_together(arguments: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse("m.onnx", "--ratio", "0.9", *arguments)
