"""The options of fine-tuning in whole runs: loss, patience, precision, and what is shown."""

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pipeline_models import compress, tree, write_data

from crespr_onnx.errors import UsageError
from crespr_onnx.progress import Progress

pytestmark = pytest.mark.usefixtures("few_steps_restrict")

TUNE = "fine-tuning the small model"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Writes a loss into the working directory and names it."""
    monkeypatch.chdir(tmp_path)
    name = f"losses_{abs(hash(tmp_path))}"

    def run(expression: str) -> str:
        text = f"from torch.nn import functional as F\n\n\ndef loss(y, batch):\n    {expression}\n"
        (tmp_path / f"{name}.py").write_text(text)
        return f"{name}:loss"

    yield run
    sys.modules.pop(name, None)


class Witness:
    """Keeps what is shown of fine-tuning."""

    def __init__(self) -> None:
        self.details: list[str] = []

    def __call__(self, progress: Progress) -> None:
        if progress.stage == TUNE:
            self.details.append(progress.detail)


def model_of(folder: Path, **settings: Any) -> bytes:
    assert compress(folder, force=True, **settings).exit_code == 0
    return (folder / "out" / "model.onnx").read_bytes()


def test_a_loss_of_ones_own_is_minimised(tmp_path: Path, write: Callable[[str], str]) -> None:
    witness = Witness()
    loss = write("return F.cross_entropy(y, batch.labels)")
    report = compress(tmp_path, witness, loss=loss, epochs=10, ratio=0.3)
    assert (report.exit_code, report.config["loss"]) == (0, loss)
    first, last = (
        float(re.findall(r"loss ([\d.]+)", d)[0])
        for d in witness.details[:: len(witness.details) - 1]
    )
    assert last < first
    own = (tmp_path / "out" / "model.onnx").read_bytes()
    assert model_of(tmp_path, loss=loss, epochs=10, ratio=0.3) == own
    assert model_of(tmp_path, epochs=10, ratio=0.3) != own


def test_a_loss_that_fails_is_told_before_anything_is_trained(
    tmp_path: Path, write: Callable[[str], str]
) -> None:
    witness = Witness()
    report = compress(tmp_path, witness, loss=write("return y"))
    assert (report.exit_code, witness.details) == (2, [])
    assert "returned a tensor of shape [16, 3] and type torch.float32" in report.reasons[0]


def test_labels_are_not_needed(tmp_path: Path, write: Callable[[str], str]) -> None:
    data = write_data(tmp_path / "unlabelled.npz", labels=False)
    built_in = model_of(tmp_path, data=data)
    loss = write("assert batch.labels is None; return F.mse_loss(y, batch.targets[0])")
    assert model_of(tmp_path, data=data, loss=loss) != built_in


def test_patience_shows_held_out_accuracy_and_changes_the_data(tmp_path: Path) -> None:
    plain, patient = Witness(), Witness()
    compress(tmp_path, plain, epochs=6)
    without = (tmp_path / "out" / "model.onnx").read_bytes()
    compress(tmp_path, patient, epochs=6, patience=3, force=True)
    assert all(re.fullmatch(r"epoch \d/4, loss \d+\.\d{4}", d) for d in plain.details)
    assert re.fullmatch(r"epoch 1/4, loss \d+\.\d{4}", patient.details[0])
    assert re.fullmatch(r"epoch \d/4, held-out accuracy [01]\.\d{4}", patient.details[-1])
    assert model_of(tmp_path, epochs=6, patience=3) != without


def test_patience_ends_training_early(tmp_path: Path) -> None:
    """Steps so large that nothing improves for long."""
    witness = Witness()
    compress(tmp_path, witness, epochs=60, patience=1, lr=0.3)
    assert len({d.split(",")[0] for d in witness.details}) < 48
    assert tree(tmp_path / "out").keys() >= {"model.onnx", "report.json"}


def test_bfloat16_makes_another_model_and_the_same_one_again(tmp_path: Path) -> None:
    narrow = [model_of(tmp_path, precision="bf16") for _ in range(2)]
    assert narrow[0] == narrow[1] != model_of(tmp_path, precision="fp32")


@pytest.mark.parametrize("changed", [{"patience": 2}, {"precision": "bf16"}])
def test_a_run_is_not_resumed_with_other_options(tmp_path: Path, changed: dict[str, Any]) -> None:
    def stop(progress: Progress) -> None:
        if progress.stage == TUNE:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compress(tmp_path, stop)
    with pytest.raises(UsageError, match=f"is of a run that differs in {next(iter(changed))};"):
        compress(tmp_path, resume=True, **changed)
