"""Importance criteria against slow float64 references that follow the formulas literally."""

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest
import torch
from training_models import array, channels, cnn, lesson_for, mlp, normal

from crespr_onnx.layout import ChannelGraph
from crespr_onnx.training.channel_edges import channel_edges, channel_importance
from crespr_onnx.training.criteria import CRITERIA
from crespr_onnx.training.criteria.criterion import weight_energy
from crespr_onnx.training.criteria.hessian import Hessian
from crespr_onnx.training.criteria.magnitude import Magnitude
from crespr_onnx.training.criteria.taylor import Taylor
from crespr_onnx.training.importer import import_model
from crespr_onnx.training.lesson import Lesson

torch.set_num_threads(1)

Matrix = np.ndarray


def setting(kind: str, samples: int = 12) -> tuple[ir.Model, ChannelGraph, Lesson]:
    model = {"mlp": mlp, "cnn": cnn}[kind]()
    shape = (samples, 6) if kind == "mlp" else (samples, 1, 6, 6)
    return model, channels(model), lesson_for(model, normal(9, *shape), np.arange(samples) % 3)


def relu(x: Matrix) -> Matrix:
    return np.maximum(x, 0)


def mlp_activations(model: ir.Model, x: Matrix) -> dict[str, Matrix]:
    """What each layer of the MLP reads, in float64: name of the weight -> [samples, inputs]."""
    w = {n: array(model, n).astype(np.float64) for n in ("w1", "b1", "w2", "b2")}
    a1 = relu(x @ w["w1"].T + w["b1"])
    return {"w1": x, "w2": a1, "w3": relu(a1 @ w["w2"] + w["b2"])}


def by_output(model: ir.Model, weight: str) -> Matrix:
    """A weight of the MLP as [n_out, n_in]."""
    w = array(model, weight).astype(np.float64)
    return w if weight == "w1" else w.T


def test_magnitude_of_dense_layers() -> None:
    model, graph, lesson = setting("mlp")
    found = Magnitude().score(
        import_model(model), graph, lesson.calibration(4, 3), lesson.objective
    )
    x = lesson.samples.inputs["x"].astype(np.float64)
    reads = mlp_activations(model, x)
    assert [e.weight for e in graph.edges] == ["w1", "w2", "w3"]
    for edge in graph.edges:
        w = by_output(model, edge.weight)
        expected = np.zeros_like(w)
        for j, i in np.ndindex(*w.shape):
            expected[j, i] = w[j, i] ** 2 * np.mean(reads[edge.weight][:, i] ** 2)
        np.testing.assert_allclose(found[edge.name], expected, rtol=1e-5)


def test_magnitude_sums_over_the_kernel_and_averages_over_space() -> None:
    model, graph, lesson = setting("cnn")
    found = Magnitude().score(
        import_model(model), graph, lesson.calibration(6, 2), lesson.objective
    )
    (edge,) = [e for e in graph.edges if e.weight == "w1"]
    w, x = array(model, "w1").astype(np.float64), lesson.samples.inputs["x"].astype(np.float64)
    expected = np.zeros((4, 1))
    for j in range(4):
        for u in range(3):
            for v in range(3):
                expected[j, 0] += w[j, 0, u, v] ** 2 * np.mean(x[:, 0] ** 2)
    np.testing.assert_allclose(found[edge.name], expected, rtol=1e-5)


def double_loss(weights: dict[str, torch.Tensor], x: Matrix, lesson: Lesson) -> torch.Tensor:
    """The objective of the MLP in float64, written out."""
    h = torch.relu(torch.from_numpy(x) @ weights["w1"].T + weights["b1"])
    h = torch.relu(h @ weights["w2"] + weights["b2"])
    scores = h @ weights["w3"] + weights["b3"]
    target = torch.from_numpy(lesson.targets[0].astype(np.float64))
    labels = lesson.samples.labels
    assert labels is not None
    p, q = torch.softmax(target / 3, dim=1), torch.softmax(scores / 3, dim=1)
    distance = 9 * (p * (p.log() - q.log())).sum(dim=1).mean()
    hard = -torch.log_softmax(scores, dim=1)[np.arange(len(x)), labels].mean()
    return 0.3 * hard + 0.7 * distance


def test_taylor_is_the_squared_product_of_weight_and_gradient() -> None:
    model, graph, lesson = setting("mlp")
    names = ("w1", "b1", "w2", "b2", "w3", "b3")
    weights = {n: torch.from_numpy(array(model, n).astype(np.float64)) for n in names}
    for w in weights.values():
        w.requires_grad_()
    expected = {e.weight: np.zeros((len(e.out_channels), len(e.in_channels))) for e in graph.edges}
    x = lesson.samples.inputs["x"].astype(np.float64)
    for start in (0, 4, 8):  # equation 8 is per batch
        rows = np.arange(start, start + 4)
        grads = torch.autograd.grad(
            double_loss(weights, x[rows], lesson.part(rows)), list(weights.values())
        )
        for name, grad in zip(names, grads, strict=True):
            if name in expected:
                square = ((grad * weights[name]) ** 2).detach().numpy()
                expected[name] += square if name == "w1" else square.T
    found = Taylor().score(import_model(model), graph, lesson.calibration(4, 3), lesson.objective)
    for edge in graph.edges:
        largest = expected[edge.weight].max()
        np.testing.assert_allclose(
            found[edge.name], expected[edge.weight], rtol=1e-3, atol=1e-5 * largest
        )


def test_taylor_leaves_no_gradient_behind() -> None:
    model, graph, lesson = setting("cnn")
    imported = import_model(model)
    Taylor().score(imported, graph, lesson.calibration(4, 2), lesson.objective)
    assert [p.grad for p in imported.module.parameters()] == [None] * 6


def test_hessian_is_the_loss_when_a_connection_goes_and_the_others_adapt() -> None:
    model, graph, lesson = setting("mlp", samples=60)
    batches = lesson.calibration(20, 3)
    found = Hessian(damping=0.05).score(import_model(model), graph, batches, lesson.objective)
    x = lesson.samples.inputs["x"].astype(np.float64)
    for edge in graph.edges:
        read = mlp_activations(model, x)[edge.weight]
        read = np.column_stack([read, np.ones(len(read))])
        hessian = read.T @ read / len(read)
        ridge = 0.05 * np.diag(hessian)[:-1].mean()
        inverse = np.linalg.inv(hessian + np.diag([ridge] * (len(hessian) - 1) + [0.0]))
        w = by_output(model, edge.weight)
        expected = np.zeros_like(w)
        for j, i in np.ndindex(*w.shape):
            expected[j, i] = w[j, i] ** 2 / inverse[i, i]
        np.testing.assert_allclose(found[edge.name], expected, rtol=1e-4)


def test_hessian_takes_the_taps_of_a_kernel_together() -> None:
    model, graph, lesson = setting("cnn")
    batches = lesson.calibration(6, 2)
    found = Hessian(damping=0.1).score(import_model(model), graph, batches, lesson.objective)
    x = np.pad(lesson.samples.inputs["x"].astype(np.float64), [(0, 0), (0, 0), (1, 1), (1, 1)])
    patches = [x[s, 0, r : r + 3, c : c + 3] for s in range(12) for r in range(6) for c in range(6)]
    read = np.column_stack([np.reshape(patches, (-1, 9)), np.ones(len(patches))])
    hessian = read.T @ read / len(read)
    ridge = 0.1 * np.diag(hessian)[:-1].mean()
    inverse = np.linalg.inv(hessian + np.diag([ridge] * 9 + [0.0]))
    w = array(model, "w1").astype(np.float64).reshape(4, 9)
    expected = [[row @ np.linalg.inv(inverse[:9, :9]) @ row] for row in w]
    np.testing.assert_allclose(found[graph.edges[0].name], expected, rtol=1e-4)


def test_hessian_is_magnitude_where_there_is_no_hessian(monkeypatch: pytest.MonkeyPatch) -> None:
    model, graph, lesson = setting("mlp")
    monkeypatch.setattr("crespr_onnx.training.criteria.hessian.MAX_INPUTS", 7)
    batches = lesson.calibration(4, 3)
    found, plain = (
        criterion.score(import_model(model), graph, batches, lesson.objective)
        for criterion in (Hessian(), Magnitude())
    )
    same = [np.array_equal(found[e.name], plain[e.name]) for e in graph.edges]
    assert [len(e.in_channels) for e in graph.edges] == [6, 8, 12]
    assert same == [False, True, True]


def test_weight_energy_is_the_squared_weight() -> None:
    model, graph, _ = setting("mlp")
    found = weight_energy(model, graph)
    for edge in graph.edges:
        np.testing.assert_allclose(found[edge.name], by_output(model, edge.weight) ** 2, rtol=1e-12)


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
@pytest.mark.parametrize("criterion", CRITERIA)
def test_importance_is_by_output_and_input_whatever_the_weight_looks_like(
    kind: str, criterion: str
) -> None:
    model, graph, lesson = setting(kind)
    batches = lesson.calibration(4, 3)
    found = CRITERIA[criterion].score(import_model(model), graph, batches, lesson.objective)
    for scores in (found, weight_energy(model, graph)):
        assert list(scores) == [e.name for e in graph.edges]
        for edge in graph.edges:
            assert scores[edge.name].shape == (len(edge.out_channels), len(edge.in_channels))
            assert scores[edge.name].dtype == np.float64
            assert (scores[edge.name] >= 0).all()
            assert scores[edge.name].max() > 0


def test_channel_edges_add_up_positions_and_weigh_all_edges_alike() -> None:
    model, graph, _ = setting("cnn")
    scores = weight_energy(model, graph)
    edges = channel_edges(graph, scores)
    assert [e.importance.sum() for e in edges] == pytest.approx([1.0] * 3)
    flat = edges[-1]
    # Inputs keep their positions, each of which a cluster may read: 6 channels of 3 by 3.
    raw = scores[flat.edge.name]
    assert flat.importance.shape == (3, 54)
    np.testing.assert_array_equal(flat.in_ids, flat.edge.in_channels)
    np.testing.assert_allclose(flat.importance, raw / raw.sum(), rtol=1e-12)


def test_channel_edges_add_up_the_positions_of_an_output() -> None:
    ids = np.array([3, 4, 3, 4])
    edge = replace(setting("mlp")[1].edges[0], in_channels=np.array([0, 1, 0]), out_channels=ids)
    graph = replace(setting("mlp")[1], edges=(edge,))
    scores = np.arange(12.0).reshape(4, 3)
    (found,) = channel_edges(graph, {edge.name: scores})
    assert found.out_ids.tolist() == [3, 4]
    assert found.in_ids.tolist() == [0, 1, 0]
    np.testing.assert_allclose(found.importance, (scores[:2] + scores[2:]) / scores.sum())


@pytest.mark.parametrize("value", [0.0, np.inf, np.nan])
def test_an_edge_without_a_usable_score_counts_all_connections_alike(value: float) -> None:
    model, graph, _ = setting("mlp")
    scores = dict(weight_energy(model, graph))
    scores[graph.edges[1].name] = np.full_like(scores[graph.edges[1].name], value)
    found = channel_edges(graph, scores)[1].importance
    np.testing.assert_array_equal(found, np.full((12, 8), 1 / 96))


def test_channel_importance_is_that_of_all_its_connections() -> None:
    model, graph, _ = setting("mlp")
    edges = channel_edges(graph, weight_energy(model, graph))
    found = channel_importance(graph, edges)
    first, second = edges[0], edges[1]
    assert list(first.out_ids) == list(second.in_ids)
    for row, channel in enumerate(first.out_ids):
        expected = first.importance[row].sum() + second.importance[:, row].sum()
        assert found[channel] == pytest.approx(expected, rel=1e-12)
