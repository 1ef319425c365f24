"""The accuracy benchmark, on the digits sample with little training."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "samples" / "benchmarks"))

import accuracy
import accuracy_table
from accuracy_methods import METHODS
from accuracy_methods.magnitude import Pruner
from accuracy_methods.task import Task, open_task
from bench_models import BENCH_MODELS, BenchModel

from crespr_onnx.training.importer import import_model

SAMPLES = Path(__file__).resolve().parents[1] / "samples"
DIGITS = BenchModel("digits.onnx", "digits", batch_size=32)
FOLDER = SAMPLES / "digits"
FILES = FOLDER / "digits.onnx", FOLDER / "train.npz", FOLDER / "eval.npz"
WEIGHTS = 89_632


@pytest.fixture(autouse=True)
def digits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BENCH_MODELS, "digits", DIGITS)


@pytest.fixture
def task() -> Any:
    with open_task(DIGITS, FILES, epochs=2, samples=256) as opened:
        yield opened


def record(out: Path, *more: str) -> list[dict[str, Any]]:
    """What the file holds after a call of the script."""
    accuracy.main(
        ["--models", str(FOLDER), "--data", str(SAMPLES), "--only", "digits", "--epochs", "2",
         "--train-samples", "256", "--seeds", "0", "--out", str(out), *more]
    )  # fmt: skip
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_records_each_method_once(tmp_path: Path) -> None:
    out = tmp_path / "results" / "digits.jsonl"
    first = record(out, "--ratios", "0.8", "--methods", "unstructured", "one_shot_magnitude")
    assert [line["method"] for line in first] == ["unstructured", "one_shot_magnitude"]
    assert [line["weights"] for line in first] == [int(0.2 * WEIGHTS)] * 2
    assert [line["epochs"] for line in first] == [2, 0]
    assert first[0]["accuracy"] > max(0.9, first[1]["accuracy"])
    assert first[0]["accuracy_dense"] > 0.99
    both = record(out, "--ratios", "0.8", "--methods", "unstructured", "uniform_l1")
    assert both[:2] == first
    assert [line["method"] for line in both[2:]] == ["uniform_l1"]
    assert 0.15 * WEIGHTS < both[2]["weights"] <= 0.2 * WEIGHTS


def test_says_why_a_ratio_is_out_of_reach(tmp_path: Path) -> None:
    (line,) = record(tmp_path / "out.jsonl", "--ratios", "0.9997", "--methods", "uniform_l1")
    assert (line["accuracy"], line["weights"]) == (None, None)
    assert line["reason"] == (
        "with a channel left in every group the model still stores 41 weights, more than the 26 of "
        "ratio 0.9997"
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_methods_keep_to_the_budget_and_to_their_seed(name: str, task: Task) -> None:
    outcome = METHODS[name].run(task, 0.8, seed=3)
    assert 0.15 * WEIGHTS < outcome.weights <= 0.2 * WEIGHTS
    assert METHODS[name].run(task, 0.8, seed=3) == outcome


def test_pruner_keeps_the_largest_of_what_is_allowed(task: Task) -> None:
    graph = task.prepared.graph
    edge = graph.edges[-1]
    allowed = {
        e.name: np.ones((len(e.out_channels), len(e.in_channels)), np.bool_) for e in graph.edges
    }
    allowed[edge.name][:, 10:] = False
    imported = import_model(task.dense)
    dense = imported.tensor(edge.weight).detach().clone()
    pruner = Pruner(imported, graph, allowed)
    assert pruner.kept == WEIGHTS - allowed[edge.name].size + 10 * 10
    pruner.cut(5000)
    assert pruner.kept == 5000
    kept = [imported.tensor(e.weight).detach().abs() for e in graph.edges]
    assert sum(int((w > 0).sum()) for w in kept) == 5000
    least = min(float(w[w > 0].min()) for w in kept)
    assert bool(((kept[-1][:, :10] > 0) == (dense[:, :10].abs() >= least)).all())
    assert not kept[-1][:, 10:].any()


def test_pruner_follows_the_cubic_schedule(task: Task) -> None:
    pruner = Pruner(import_model(task.dense), task.prepared.graph)
    pruner.step(0.4951, keep=1000)
    assert pruner.kept == 1000 + round((WEIGHTS - 1000) * 0.5**3)
    pruner.step(1.0, keep=1000)
    assert pruner.kept == 1000


def line(method: str, ratio: float, seed: int, accuracy: float | None) -> dict[str, Any]:
    weights = None if accuracy is None else round((1 - ratio) * 1000)
    return {
        "model": "digits", "ratio": ratio, "method": method, "seed": seed, "budget_epochs": 3,
        "train_samples": None, "accuracy": accuracy, "accuracy_dense": 0.99, "weights": weights,
        "weights_dense": 1000, "reason": "too narrow" if accuracy is None else None,
    }  # fmt: skip


RECORDS = [
    line("unstructured", 0.9, 0, 0.97),
    line("crespr", 0.9, 0, 0.95),
    line("crespr", 0.9, 1, 0.97),
    line("crespr", 0.99, 0, None),
]


def test_table_has_mean_and_spread_and_says_why_cells_are_empty() -> None:
    (group,) = accuracy_table.by_model(RECORDS)
    assert accuracy_table.table(group).splitlines() == [
        "**digits**: 1,000 weights, dense 99.00%; 3 epochs on all training samples, 2 seeds",
        "",
        "| method | 90% | 99% |",
        "|---|---|---|",
        "| crespr | 96.00 ± 1.41 | - |",
        "| unstructured (masked) | 97.00 | - |",
        "",
        "- crespr: too narrow",
    ]


def test_table_keeps_different_efforts_apart() -> None:
    other = {**RECORDS[0], "budget_epochs": 15}
    assert [len(group) for group in accuracy_table.by_model([*RECORDS, other])] == [4, 1]


def test_plot_is_written(tmp_path: Path) -> None:
    accuracy_table.plot(accuracy_table.by_model(RECORDS), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
