"""The correction of a model that was cut at once, and when it is made."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from pipeline_models import compress, normal, write_data, write_mlp

from crespr_onnx.data import Samples
from crespr_onnx.layout import ChannelGraph, WeightedEdge
from crespr_onnx.progress import Progress, silent
from crespr_onnx.settings import CompressSettings
from crespr_onnx.stages.choose_plan import choose_plan
from crespr_onnx.stages.correct import correct, samples_for
from crespr_onnx.stages.masking import masked_copy
from crespr_onnx.stages.plan_layout import LayoutPlan, possible_plans
from crespr_onnx.stages.prepare import prepare_model
from crespr_onnx.stages.train import make_lesson, restrict, score
from crespr_onnx.training.finetune import mean_loss
from crespr_onnx.training.importer import import_model
from crespr_onnx.training.lesson import Lesson

torch.set_num_threads(1)


class Case:
    """The MLP of the pipeline, 64 samples without labels, and the plans for a ratio."""

    def __init__(self, folder: Path, ratio: float = 0.6, epochs: int = 0) -> None:
        path = write_mlp(folder)
        self.settings = CompressSettings(path, ratio, epochs=epochs, batch_size=16, threads=1)
        prepared = prepare_model(path)
        self.model: ir.Model = prepared.model
        self.graph: ChannelGraph = prepared.graph
        found = make_lesson(self.model, Samples({"x": normal(7, 64, 8)}), self.settings, silent)
        assert found is not None
        self.lesson: Lesson = found
        scores = score(self.model, self.graph, self.lesson, self.settings)
        self.plans: list[LayoutPlan] = possible_plans(self.graph, self.settings, scores)

    def loss(self, model: ir.Model) -> float:
        return mean_loss(import_model(model).module, self.lesson)

    def masked(self, plan: LayoutPlan) -> ir.Model:
        return masked_copy(self.model, self.graph, plan.layout)


def weights(model: ir.Model) -> dict[str, np.ndarray]:
    values = model.graph.initializers
    return {n: v.const_value.numpy() for n, v in values.items() if v.const_value is not None}


def test_a_correction_lowers_the_loss_and_keeps_the_zeros(tmp_path: Path) -> None:
    case = Case(tmp_path)
    plan = next(p for p in case.plans if p.clusters > 1 and p.layout.selections)
    masked = case.masked(plan)
    untouched = weights(case.masked(plan))
    told: list[Progress] = []
    found = correct(
        case.model, masked, case.graph, plan.layout, case.lesson, case.settings, told.append
    )
    assert found.helped
    assert found.before == pytest.approx(case.loss(masked), rel=1e-4)
    assert found.after == pytest.approx(case.loss(found.model), rel=1e-4)
    assert found.after < 0.75 * found.before
    for name, weight in weights(found.model).items():
        if weight.ndim == 2:
            assert (weight[untouched[name] == 0] == 0).all()
    assert all(np.array_equal(weights(masked)[n], w) for n, w in untouched.items())
    assert [p.stage for p in told] == ["re-fitting the kept weights"] * 3
    assert [p.done for p in told] == pytest.approx([0, 1 / 3, 2 / 3])


def test_a_correction_that_does_not_help_is_not_made(tmp_path: Path) -> None:
    case = Case(tmp_path)
    plan = case.plans[-1]
    masked = case.masked(plan)
    # What the masked model answers is the goal, so nothing can be better than to leave it.
    own = make_lesson(masked, case.lesson.samples, case.settings, silent)
    assert own is not None
    found = correct(case.model, masked, case.graph, plan.layout, own, case.settings, silent)
    assert not found.helped
    assert found.model is masked
    assert found.before < 1e-6 < found.after


@pytest.mark.parametrize(
    ("epochs", "least", "corrected"),
    [(0, 1, True), (1, 1, True), (2, 4, False), (2, 5, True)],  # an epoch has 4 steps
)
def test_what_was_not_restricted_while_training_is_corrected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs: int, least: int, corrected: bool
) -> None:
    monkeypatch.setattr("crespr_onnx.stages.train.LEAST_STEPS", least)
    case = Case(tmp_path, epochs=epochs)
    told: list[Progress] = []
    checkpoint = tmp_path / "restrict.safetensors"
    plan = case.plans[0]
    model, _ = restrict(
        case.model, case.graph, plan, case.lesson, case.settings, checkpoint, told.append
    )
    assert ("re-fitting the kept weights" in {p.stage for p in told}) == corrected
    if corrected:
        assert case.loss(model) < case.loss(case.masked(plan))


def test_without_data_it_is_only_cut(tmp_path: Path) -> None:
    case = Case(tmp_path)
    plan = case.plans[0]
    checkpoint = tmp_path / "restrict.safetensors"
    model, layout = restrict(case.model, case.graph, plan, None, case.settings, checkpoint, silent)
    assert layout is plan.layout
    expected = weights(case.masked(plan))
    assert all(np.array_equal(w, expected[n]) for n, w in weights(model).items())


def test_without_training_the_plan_is_chosen_by_the_loss_after_correction(tmp_path: Path) -> None:
    case = Case(tmp_path, ratio=0.5)
    losses = []
    for plan in case.plans:
        found = correct(
            case.model, case.masked(plan), case.graph, plan.layout, case.lesson, case.settings,
            silent,
        )  # fmt: skip
        losses.append(found.after)
    assert len(set(losses)) == len(losses) > 1
    order = np.argsort(losses)[::-1]  # the best one last
    plans = [case.plans[i] for i in order]
    told: list[Progress] = []
    chosen = choose_plan(case.model, case.graph, plans, case.lesson, case.settings, told.append)
    assert chosen is plans[-1]
    assert told[-1].detail == f"chose {chosen.clusters}"
    only = replace(case.settings, clusters=chosen.clusters)
    assert choose_plan(case.model, case.graph, plans[:1], case.lesson, only, silent) is plans[0]


@pytest.mark.parametrize("criterion", ["magnitude", "hessian"])
def test_one_shot_needs_data_but_no_labels(tmp_path: Path, criterion: str) -> None:
    data = write_data(tmp_path / "unlabelled.npz", 96, labels=False)
    held = write_data(tmp_path / "eval.npz", 200, seed=8, labels=False)
    settings = {"epochs": 0, "eval_data": held, "criterion": criterion, "output": tmp_path / "a"}
    corrected = compress(tmp_path, data=data, **settings)
    blind = compress(tmp_path, data=None, **settings | {"output": tmp_path / "b"})
    assert (corrected.exit_code, blind.exit_code) == (0, 0)
    assert corrected.ratio is not None
    assert corrected.ratio.physical >= 0.6
    assert corrected.metric is not None
    assert blind.metric is not None
    assert corrected.metric.drop < blind.metric.drop


@pytest.mark.parametrize(
    ("inputs", "kernel", "positions", "samples"),
    [
        (100, 1, 1, 512),
        (784, 1, 1, 4 * 784),
        (4000, 1, 1, 4096),
        (200, 9, 2, 2 * 200 * 9),
        (512, 9, 196, 512),
    ],
)
def test_wide_layers_want_more_samples_and_many_positions_fewer(
    inputs: int, kernel: int, positions: int, samples: int
) -> None:
    ends = np.arange(inputs), np.arange(inputs, inputs + 2)
    edge = WeightedEdge("e", "Conv", "w", 1, 0, *ends, kernel, positions)
    graph = ChannelGraph((), (edge,), {}, {}, {})
    assert samples_for(graph) == samples
