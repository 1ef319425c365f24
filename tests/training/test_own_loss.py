"""Losses of the user's own: what they are given, and what is refused."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from training_models import lesson_for, mlp, normal

from crespr_onnx.errors import UsageError
from crespr_onnx.training.finetune import FineTuning, fine_tune
from crespr_onnx.training.importer import import_model
from crespr_onnx.training.objective import Batch, Objective
from crespr_onnx.training.own_loss import check_loss, own_objective

torch.set_num_threads(1)

Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes a function `loss` into a module of the current folder, and names it."""
    monkeypatch.chdir(tmp_path)
    name = f"losses_{abs(hash(tmp_path))}"

    def run(body: str) -> str:
        sys.modules.pop(name, None)
        text = "import torch\nfrom torch.nn import functional as F\n\n\n"
        (tmp_path / f"{name}.py").write_text(f"{text}def loss(outputs, batch):\n    {body}\n")
        return f"{name}:loss"

    yield run
    sys.modules.pop(name, None)


def check(spec: str) -> None:
    model = mlp()
    lesson = lesson_for(model, normal(0, 16, 6), np.arange(16) % 3)
    check_loss(own_objective(spec, Objective(True)), import_model(model).module,
               lesson.batch(np.arange(16)))  # fmt: skip


def test_a_loss_sees_outputs_inputs_targets_and_labels(write: Write) -> None:
    objective = own_objective(
        write(
            "assert isinstance(outputs, torch.Tensor)\n"
            "    return (F.mse_loss(outputs, batch.targets[0]) + batch.inputs[0].sum()\n"
            "            + F.cross_entropy(outputs, batch.labels))"
        ),
        Objective(True),
    )
    x, y, t = (torch.from_numpy(normal(i, 4, 3)) for i in range(3))
    labels = torch.tensor([0, 1, 2, 1])
    expected = ((y - t) ** 2).mean() + x.sum() - y.log_softmax(1)[range(4), labels].mean()
    found = objective.loss(y, Batch((x,), (t,), labels))
    torch.testing.assert_close(found, expected)


def test_several_outputs_are_a_tuple_and_missing_labels_none(write: Write) -> None:
    body = "assert type(outputs) is tuple and batch.labels is None; return outputs[1].mean()"
    objective = own_objective(write(body), Objective(False))
    outputs = [torch.zeros(2, 3), torch.ones(2)]
    assert objective.loss(outputs, Batch((), (None, None), None)) == 1.0


def test_training_minimises_it(write: Write) -> None:
    """Towards answers of the user's own, whatever the dense model says."""
    spec = write("return (outputs - 7.0).square().mean(dim=1).mean().reshape(1)")
    model = mlp()
    lesson = lesson_for(model, normal(0, 64, 6))
    object.__setattr__(lesson, "objective", own_objective(spec, lesson.objective))
    module = import_model(model).module
    fine_tune(module, lesson, FineTuning(epochs=60, batch_size=16, lr=0.03))
    answers = module(torch.from_numpy(normal(0, 64, 6))).detach()
    assert float(answers.mean()) == pytest.approx(7.0, abs=0.5)


def test_a_loss_may_import_from_its_folder_when_it_is_first_called(
    write: Write, tmp_path: Path
) -> None:
    (tmp_path / "beside_the_loss.py").write_text("SCALE = 2.0\n")
    before = list(sys.path)
    check(write("from beside_the_loss import SCALE; return SCALE * outputs.square().mean()"))
    assert sys.path == before


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return 3.0", "returned float; return a scalar tensor, such as the mean over the batch"),
        ("pass", "returned NoneType; return a scalar tensor"),
        (
            "return outputs.square()",
            r"returned a tensor of shape \[16, 3\] and type torch.float32; return one floating-",
        ),
        (
            "return outputs.argmax()",
            r"returned a tensor of shape \[\] and type torch.int64; return one",
        ),
        ("return outputs.mean() / 0", "is -?inf for the dense model; it must be finite"),
        ("return (outputs - outputs).sum().sqrt()", "its gradient is not finite for the dense mod"),
        ("return outputs.detach().mean()", "has no gradient; compute it from the outputs with tor"),
        ("return batch.targets[0].mean()", "has no gradient"),
        (
            "return torch.ones((), requires_grad=True) * 2",
            "has no gradient; compute it from the outputs with torch, without detach, argmax or no",
        ),
        ("return batch.weights", "calling it failed with AttributeError: 'Batch' object has no"),
        ("raise KeyError('x')", "calling it failed with KeyError: 'x'"),
    ],
)
def test_losses_that_are_refused(write: Write, body: str, message: str) -> None:
    spec = write(body)
    with pytest.raises(UsageError, match=f"^--loss {spec}: {message}") as caught:
        check(spec)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("mse", "--loss is mse; give module:function"),
        ("no.such_module:loss", "no.such_module:loss: no module named 'no'; run in the folder"),
        ("math:loss", "math:loss: the module has no function 'loss'"),
        ("math:pi", "math:pi: the module has no function 'pi'"),
    ],
)
def test_functions_that_are_none(spec: str, message: str) -> None:
    with pytest.raises(UsageError, match=f"^{message}"):
        own_objective(spec, Objective(True))


def test_a_module_that_cannot_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken_losses.py").write_text("def loss(:\n")
    message = "^broken_losses:loss: importing it failed with SyntaxError: invalid syntax"
    with pytest.raises(UsageError, match=message):
        own_objective("broken_losses:loss", Objective(True))
