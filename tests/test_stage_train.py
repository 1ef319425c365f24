"""How a run is shared out among its phases, and which objective suits which model."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from pipeline_models import normal, write_model

from crespr_onnx.data import Samples
from crespr_onnx.progress import Progress
from crespr_onnx.settings import CompressSettings
from crespr_onnx.stages.train import LEAST_STEPS, make_lesson, objective_for, restrict_epochs

LABELS = np.zeros(4, dtype=np.int64)


@pytest.mark.parametrize(
    ("epochs", "restricting"),
    [(0, 0), (1, 0), (2, 1), (5, 2), (7, 2), (8, 3), (15, 5), (100, 35)],
)
def test_a_third_of_the_epochs_restricts(epochs: int, restricting: int) -> None:
    assert restrict_epochs(epochs, LEAST_STEPS) == restricting


@pytest.mark.parametrize(
    ("epochs", "steps", "restricting"), [(3, LEAST_STEPS - 1, 0), (6, 149, 0), (6, 150, 2)]
)
def test_no_restriction_is_hasty(epochs: int, steps: int, restricting: int) -> None:
    assert restrict_epochs(epochs, steps) == restricting


@pytest.mark.parametrize(
    ("outputs", "labels", "classifier", "probabilities"),
    [
        ("float[N, 3] y | y = MatMul (x, w)", True, True, False),
        ("float[N, 3] y | y = MatMul (x, w)", False, True, False),
        ("float[N, 3] y | h = MatMul (x, w) y = Softmax (h)", True, True, True),
        ("float[N, 1] y | y = MatMul (x, v)", False, False, False),
        ("float[N, 3] y, float[N, 1] z | y = MatMul (x, w) z = MatMul (x, v)", True, False, False),
        ("float[N, 1, 3] y | h = MatMul (x, w) y = Unsqueeze (h, axis)", False, False, False),
    ],
)
def test_objective(
    tmp_path: Path, outputs: str, labels: bool, classifier: bool, probabilities: bool
) -> None:
    declared, nodes = outputs.split(" | ")
    text = f"g (float[N, 4] x) => ({declared}) {{ {nodes} }}"
    arrays = {"w": normal(0, 4, 3), "v": normal(1, 4, 1), "axis": np.array([1])}
    model = ir.load(write_model(tmp_path / "m.onnx", text, **arrays))
    samples = Samples({"x": normal(2, 4, 4)}, LABELS if labels else None)
    found = objective_for(model, samples)
    assert (found.classifier, found.probabilities) == (classifier, probabilities)


def test_the_dense_model_answers_every_sample_once(tmp_path: Path) -> None:
    text = "g (float[N, 4] x) => (float[N, 3] y) { y = MatMul (x, w) }"
    weight, x = normal(0, 4, 3), normal(1, 600, 4)
    model = ir.load(write_model(tmp_path / "m.onnx", text, w=weight))
    told: list[Progress] = []
    settings = CompressSettings(tmp_path / "m.onnx", 0.5, threads=1)
    lesson = make_lesson(model, Samples({"x": x}), settings, told.append)
    assert lesson is not None
    assert lesson.inputs == ("x",)
    np.testing.assert_allclose(lesson.targets[0], x @ weight, rtol=1e-4, atol=1e-5)
    assert [p.done for p in told] == pytest.approx([256 / 600, 512 / 600, 1.0])
    assert make_lesson(model, None, settings, told.append) is None
