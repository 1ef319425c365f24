"""Runs that were interrupted: they go on where they were, and end with the same bytes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pipeline_models import DIGITS, compress, stored, tree, write_data, write_mlp

from crespr_onnx import cli
from crespr_onnx.errors import UsageError
from crespr_onnx.progress import Progress

pytestmark = pytest.mark.usefixtures("few_steps_restrict")

RESTRICT, TUNE = "restricting to clusters", "fine-tuning the small model"


class InterruptAt:
    """A listener that stops a run when a stage has come so far, as Ctrl-C would."""

    def __init__(self, stage: str, done: float = 0.0) -> None:
        self.stage, self.done, self.told = stage, done, []

    def __call__(self, progress: Progress) -> None:
        self.told.append(progress.stage)
        if progress.stage == self.stage and (progress.done or 0.0) >= self.done:
            raise KeyboardInterrupt


NEVER = "never"


def interrupt(folder: Path, stage: str, done: float = 0.0, **settings: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        compress(folder, InterruptAt(stage, done), **settings)
    assert "model.onnx" not in tree(folder / "out")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, few_steps_restrict: None) -> bytes:
    """The model of a run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    assert compress(folder, epochs=10).exit_code == 0
    return (folder / "out" / "model.onnx").read_bytes()


@pytest.mark.parametrize(
    ("stage", "done", "skipped"),
    [
        ("clustering channels", 0.0, set()),
        (RESTRICT, 0.3, set()),
        (RESTRICT, 0.7, set()),
        ("splitting clusters", 0.0, {RESTRICT}),
        (TUNE, 0.05, {RESTRICT}),
        (TUNE, 0.6, {RESTRICT}),
        ("verifying", 0.0, {RESTRICT, TUNE}),
    ],
)
def test_an_interrupted_run_ends_the_same(
    tmp_path: Path, whole: bytes, stage: str, done: float, skipped: set[str]
) -> None:
    interrupt(tmp_path, stage, done, epochs=10)
    assert (tmp_path / "out" / "checkpoints").is_dir()
    witness = InterruptAt(NEVER)
    report = compress(tmp_path, witness, epochs=10, resume=True)
    assert (report.exit_code, report.reasons) == (0, ())
    assert (tmp_path / "out" / "model.onnx").read_bytes() == whole
    assert not skipped & {*witness.told}
    assert not (tmp_path / "out" / "checkpoints").exists()


def test_finished_epochs_are_not_repeated(tmp_path: Path) -> None:
    interrupt(tmp_path, TUNE, 0.6, epochs=10)
    witness = InterruptAt(NEVER)
    compress(tmp_path, witness, epochs=10, resume=True)
    # 86 samples in batches of 16 make 5 steps; 6 epochs of tuning, of which 3 were done.
    assert witness.told.count(TUNE) == 15


def test_interrupted_twice(tmp_path: Path, whole: bytes) -> None:
    interrupt(tmp_path, RESTRICT, 0.7, epochs=10)
    interrupt(tmp_path, TUNE, 0.3, epochs=10, resume=True)
    interrupt(tmp_path, TUNE, 0.8, epochs=10, resume=True)
    compress(tmp_path, epochs=10, resume=True)
    assert (tmp_path / "out" / "model.onnx").read_bytes() == whole


def test_resume_without_anything_to_go_on_from_is_a_whole_run(tmp_path: Path, whole: bytes) -> None:
    compress(tmp_path, epochs=10, resume=True)
    assert (tmp_path / "out" / "model.onnx").read_bytes() == whole


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"ratio": 0.7}, "ratio"),
        ({"lr": 0.1, "epochs": 4}, "epochs, lr"),
        # The seed also says which samples are held out of the training data.
        ({"seed": 3}, "data, seed"),
        ({"threads": 2}, "threads"),
        ({"clusters": None}, "clusters"),
    ],
)
def test_other_settings_are_refused(tmp_path: Path, changed: dict[str, Any], named: str) -> None:
    interrupt(tmp_path, RESTRICT)
    before = tree(tmp_path)
    message = (
        f"^{tmp_path}/out/checkpoints is of a run that differs in {named}; go on with what it had, "
        "or start over with --force$"
    )
    with pytest.raises(UsageError, match=message):
        compress(tmp_path, resume=True, **changed)
    assert tree(tmp_path) == before


def test_changed_data_of_the_same_size_are_refused(tmp_path: Path) -> None:
    interrupt(tmp_path, RESTRICT)
    size = (tmp_path / "data.npz").stat().st_size
    other = write_data(tmp_path / "data2.npz", seed=8)
    os.replace(other, tmp_path / "data.npz")
    assert (tmp_path / "data.npz").stat().st_size == size
    with pytest.raises(UsageError, match="is of a run that differs in data; go on with"):
        compress(tmp_path, resume=True, data=str(tmp_path / "data.npz"))


def test_the_same_data_elsewhere_are_welcome(tmp_path: Path) -> None:
    interrupt(tmp_path, TUNE, 0.6)
    moved = tmp_path / "moved.npz"
    os.replace(tmp_path / "data.npz", moved)
    assert compress(tmp_path, resume=True, data=str(moved)).exit_code == 0


def test_changed_labels_are_refused(tmp_path: Path) -> None:
    interrupt(tmp_path, RESTRICT)
    with np.load(tmp_path / "data.npz") as arrays:
        x, labels = arrays["x"], arrays["labels"]
    np.savez(tmp_path / "data.npz", x=x, labels=(labels + 1) % 3)
    with pytest.raises(UsageError, match="is of a run that differs in data;"):
        compress(tmp_path, resume=True, data=str(tmp_path / "data.npz"))


def test_changed_data_of_a_function_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name says nothing about what it returns."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("RESUME_SEED", "1")
    (tmp_path / "resume_reader.py").write_text(
        "import os\nimport numpy as np\n\n\ndef read():\n"
        "    rng = np.random.default_rng(int(os.environ['RESUME_SEED']))\n"
        "    yield {'x': rng.normal(size=(96, 8)).astype('float32')}, None\n"
    )
    data = "resume_reader:read"
    interrupt(tmp_path, TUNE, 0.6, data=data)
    monkeypatch.setenv("RESUME_SEED", "2")
    with pytest.raises(UsageError, match="is of a run that differs in data;"):
        compress(tmp_path, resume=True, data=data)
    monkeypatch.setenv("RESUME_SEED", "1")
    assert compress(tmp_path, resume=True, data=data).exit_code == 0


def test_another_model_is_refused(tmp_path: Path) -> None:
    interrupt(tmp_path, RESTRICT)
    write_mlp(tmp_path, opset=18)
    with pytest.raises(UsageError, match="is of a run that differs in model;"):
        compress(tmp_path, resume=True)


def test_gates_and_target_may_change(tmp_path: Path) -> None:
    interrupt(tmp_path, TUNE, 0.6)
    report = compress(tmp_path, resume=True, min_speedup=1e6, max_drop=0.9)
    assert report.exit_code == 6
    assert stored(tmp_path / "out")["exit_code"] == 6


@pytest.mark.parametrize("name", ["run.json", "restricted.onnx", "tune.safetensors"])
def test_damaged_checkpoints_are_named(tmp_path: Path, name: str) -> None:
    interrupt(tmp_path, TUNE, 0.6)
    path = tmp_path / "out" / "checkpoints" / name
    path.write_bytes(b"{\x00damaged")
    settings = {"resume": True, "data": str(tmp_path / "data.npz")}
    if name == "run.json":
        with pytest.raises(UsageError, match=f"^{path}: is damaged; start over with --force$"):
            compress(tmp_path, **settings)
        return
    report = compress(tmp_path, **settings)
    assert report.exit_code == 2
    assert report.reasons[0].startswith(f"{path}: is damaged")
    assert report.reasons[0].endswith("start over with --force")
    assert compress(tmp_path, force=True).exit_code == 0


def test_force_starts_over_and_leaves_the_users_files_alone(tmp_path: Path, whole: bytes) -> None:
    interrupt(tmp_path, TUNE, 0.6)
    mine = {"out/notes.txt": b"mine", "out/checkpoints/best.pt": b"hours of work"}
    for name, content in mine.items():
        (tmp_path / name).write_bytes(content)
    compress(tmp_path, epochs=10, force=True)
    assert (tmp_path / "out" / "model.onnx").read_bytes() == whole
    assert mine.items() <= tree(tmp_path).items()
    assert [p.name for p in (tmp_path / "out" / "checkpoints").iterdir()] == ["best.pt"]


def digits(folder: Path, output: str) -> list[str]:
    with np.load(DIGITS / "train.npz") as arrays:
        np.savez(folder / "d.npz", input=arrays["input"][:480], labels=arrays["labels"][:480])
    return [
        "compress", str(DIGITS / "digits.onnx"), "--ratio", "0.9", "--data", str(folder / "d.npz"),
        "--epochs", "40", "--batch-size", "16", "--clusters", "4", "--threads", "1", "--quiet",
        "--max-drop", "1", "--min-speedup", "0", "-o", str(folder / output),
    ]  # fmt: skip


def kill_when(path: Path, command: list[str]) -> None:
    """Starts a run and kills it, without a chance to tidy up, as soon as a file appears."""
    run = subprocess.Popen([sys.executable, "-m", "crespr_onnx", *command])
    deadline = time.monotonic() + 120
    while not path.exists() and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL, "it was over before it could be killed"


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(digits(tmp_path, "whole")) == 0
    command = digits(tmp_path, "killed")
    output = tmp_path / "killed"
    kill_when(output / "checkpoints" / "restrict.safetensors", command)
    left = tree(output)
    assert "model.onnx" not in left
    assert "report.json" not in left
    assert json.loads(left["checkpoints/run.json"])["ratio"] == "0.9"
    kill_when(output / "checkpoints" / "tune.safetensors", [*command, "--resume"])
    # Whatever it was writing when it was killed.
    (output / ".crespr-model-x.tmp.onnx").write_bytes(b"half")
    assert cli.run([*command, "--resume"]) == 0
    assert capsys.readouterr().err == ""
    assert (output / "model.onnx").read_bytes() == (tmp_path / "whole/model.onnx").read_bytes()
    assert {*tree(output)} == {*tree(tmp_path / "whole")}
