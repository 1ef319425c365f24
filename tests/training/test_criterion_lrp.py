"""The criterion `lrp`, the samples it chooses, and units dropped by relevance."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from relevance_models import lenet, resnet
from training_models import array, channels, cnn, lesson_for, mlp, normal, run

from crespr_onnx.graph.channels import find_channels
from crespr_onnx.layout import DROPPED, Layout, dense_layout
from crespr_onnx.stages.lower import split
from crespr_onnx.stages.masking import masked_copy
from crespr_onnx.training.criteria.lrp import Lrp
from crespr_onnx.training.importer import import_model
from crespr_onnx.training.objective import Batch, Objective
from crespr_onnx.training.relevance.reference import reference_samples
from crespr_onnx.training.relevance.score import relevance_flows, unit_relevance
from crespr_onnx.training.relevance.variant import Variant

torch.set_num_threads(1)

Matrix = np.ndarray
PROGRAM = [sys.executable, "-m", "crespr_onnx"]
DIGITS = Path(__file__).resolve().parents[2] / "samples" / "digits"


def batch(labels: list[int], start: int = 0) -> Batch:
    x = torch.arange(start, start + len(labels), dtype=torch.float32)[:, None]
    return Batch((x,), (torch.nn.functional.one_hot(torch.tensor(labels)).float(),), None)


def test_the_first_samples_of_each_class_are_chosen_across_batches() -> None:
    chosen = reference_samples([batch([0, 0, 1]), batch([1, 1, 0], 3), batch([0, 2], 6)], True, 2)
    assert [b.inputs[0][:, 0].tolist() for b in chosen] == [[0, 1, 2], [3], [7]]


def test_labels_come_before_answers() -> None:
    given = batch([0, 0, 0])
    labelled = Batch(given.inputs, given.targets, torch.tensor([0, 1, 1]))
    (chosen,) = reference_samples([labelled], True, 1)
    assert chosen.inputs[0][:, 0].tolist() == [0, 1]
    assert chosen.labels is not None
    assert chosen.labels.tolist() == [0, 1]


def test_without_classes_all_batches_give_as_many() -> None:
    chosen = reference_samples([batch([0] * 80), batch([1] * 80, 80)], False)
    assert [len(b.inputs[0]) for b in chosen] == [50, 50]


def test_relevance_of_a_unit_is_that_of_its_connections() -> None:
    model = lenet()
    graph, _ = find_channels(model)
    lesson = lesson_for(model, normal(9, 6, 1, 12, 12), np.arange(6) % 3)
    imported, batches = import_model(model), lesson.calibration(3, 2)
    links = Lrp().score(imported, graph, batches, lesson.objective)
    units = unit_relevance(imported, graph, batches)
    for edge in graph.edges:
        assert links[edge.name].shape == (len(edge.out_channels), len(edge.in_channels))
        np.testing.assert_allclose(
            links[edge.name].sum(axis=1), units[edge.out_channels], rtol=1e-4, atol=1e-6
        )


def hidden_values(model: ir.Model, x: Matrix) -> tuple[Matrix, Matrix]:
    """What the hidden layers of the MLP give, in float64."""
    w = {n: array(model, n).astype(np.float64) for n in ("w1", "b1", "w2", "b2")}
    first = np.maximum(x @ w["w1"].T + w["b1"], 0)
    return first, np.maximum(first @ w["w2"] + w["b2"], 0)


def test_by_hand_on_two_layers() -> None:
    model = mlp()
    x, labels = normal(9, 4, 6), [2, 0, 1, 1]
    lesson, graph = lesson_for(model, x, labels), channels(model)
    found = Lrp().score(import_model(model), graph, lesson.calibration(4, 1), lesson.objective)
    w2, w3 = array(model, "w2"), array(model, "w3")
    first, second = hidden_values(model, x)
    last, middle = np.zeros((3, 12)), np.zeros((12, 8))
    for n, true in enumerate(labels):
        terms = np.maximum(second[n] * w3[:, true], 0)
        share = terms / terms.sum() if terms.any() else terms
        last[true] += share
        for j in np.flatnonzero(share):
            terms = np.maximum(first[n] * w2[:, j], 0)
            middle[j] += terms / terms.sum() * share[j]
    np.testing.assert_allclose(found["gemm_5"], last, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found["matmul_2"], middle, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("make", [cnn, resnet])
def test_scores_are_sizes_and_the_same_each_time(make: object, labelled: bool) -> None:
    model = make()  # type: ignore[operator]
    channels_in = model.graph.inputs[0].shape[1]
    labels = np.arange(12) % 3 if labelled else None
    lesson = lesson_for(model, normal(9, 12, channels_in, 6, 6), labels)
    imported, batches = import_model(model), lesson.calibration(4, 3)
    first, second = (
        Lrp().score(imported, channels(model), batches, lesson.objective) for _ in "ab"
    )
    for name, scores in first.items():
        assert (scores >= 0).all()
        assert scores.max() > 0
        np.testing.assert_array_equal(scores, second[name])


def test_a_model_without_classes_explains_its_outputs() -> None:
    model = mlp()
    lesson, graph = lesson_for(model, normal(9, 8, 6)), channels(model)
    imported, batches = import_model(model), lesson.calibration(8, 1)
    (flows,) = relevance_flows(imported, batches, Variant(classifier=False))
    # All that an output is reaches its inputs, with its sign, if it has a positive term.
    _, second = hidden_values(model, lesson.samples.inputs["x"])
    answered = (second[:, :, None] * array(model, "w3")[None] > 0).any(axis=1)
    assert lesson.targets[0] is not None
    expected = (lesson.targets[0] * answered).sum(axis=0)
    np.testing.assert_allclose(flows["gemm_5"].weights.sum(dim=1).numpy(), expected, rtol=1e-4)
    found = Lrp().score(imported, graph, batches, Objective(classifier=False))
    np.testing.assert_array_equal(found["gemm_5"], np.abs(flows["gemm_5"].weights.double().numpy()))


def test_the_least_relevant_units_can_be_dropped() -> None:
    model, x = mlp(), normal(9, 30, 6)
    graph, lesson = channels(model), lesson_for(mlp(), normal(9, 30, 6), np.arange(30) % 3)
    scores = unit_relevance(import_model(model), graph, lesson.calibration(30, 1))
    free = np.concatenate([g.channels for g in graph.groups if g.frozen is None])
    labels = dense_layout(graph).labels
    labels[free[np.argsort(scores[free], kind="stable")[:6]]] = DROPPED
    layout = Layout(labels, dense_layout(graph).clusters)
    masked = masked_copy(model, graph, layout)
    small = split(masked, graph, layout)
    kept = [int(layout.kept(g.channels).sum()) for g in graph.groups if g.frozen is None]
    assert sum(kept) == len(free) - 6
    assert sum(v.const_value.size for v in small.graph.initializers.values()) < sum(
        v.const_value.size for v in model.graph.initializers.values()
    )
    np.testing.assert_allclose(run(small, x), run(masked, x), rtol=1e-4, atol=1e-5)


def test_the_command_line_takes_it(tmp_path: Path) -> None:
    with np.load(DIGITS / "train.npz") as arrays:
        few = {name: arrays[name][:200] for name in arrays.files}
    np.savez(tmp_path / "few.npz", **few)
    command = [
        "compress", str(DIGITS / "digits.onnx"), "--ratio", "0.9", "--target", "onnx",
        "--data", str(tmp_path / "few.npz"), "--eval-data", str(DIGITS / "eval.npz"),
        "--criterion", "lrp", "--epochs", "1", "--clusters", "2", "--threads", "1",
        "--max-drop", "1", "-o", str(tmp_path / "out"),
    ]  # fmt: skip
    run = subprocess.run([*PROGRAM, *command], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["config"]["criterion"] == "lrp"
    assert report["ratio"]["physical"] >= 0.9
