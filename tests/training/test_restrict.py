"""Restriction: from the dense weights to exactly the sizes of an allocation, in small cuts."""

import numpy as np
import onnx_ir as ir
import pytest
import torch
from training_models import array, channels, cnn, importances, mlp, normal, parse, run

from crespr_onnx.layout import ChannelGraph
from crespr_onnx.stages.masking import masked_copy
from crespr_onnx.training.allocate import Allocation, allocate
from crespr_onnx.training.channel_edges import channel_edges
from crespr_onnx.training.cluster import cluster, objective
from crespr_onnx.training.criteria.criterion import Importance, weight_energy
from crespr_onnx.training.importer import ImportedModel, import_model
from crespr_onnx.training.restrict import CUTS, RESTRICTED_AT, Restriction

torch.set_num_threads(1)

SHARED = """g (float[N, 6] x) => (float[N, 3] y) {
    h = Gemm (x, w1)
    a = Gemm (h, w2)
    r = Relu (a)
    b = Gemm (r, w2)
    y = Gemm (b, w3)
}"""


def shared() -> ir.Model:
    """One weight in two layers."""
    return parse(SHARED, w1=normal(0, 6, 8), w2=normal(1, 8, 8), w3=normal(2, 8, 3))


def wide_cnn() -> ir.Model:
    """A CNN with room for several clusters."""
    return cnn((16, 24))


MODELS = {"mlp": mlp, "cnn": wide_cnn, "shared": shared}


class Setting:
    """A model, an allocation with clusters that select, and its restriction."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.model = MODELS[kind]()
        self.graph: ChannelGraph = channels(self.model)
        self.allocation: Allocation = allocate(self.graph, 2, 0.7)
        assert self.allocation.fan_in
        assert any(
            width < len(group.channels)
            for width, group in zip(self.allocation.widths, self.graph.groups, strict=True)
        )
        layout = cluster(self.graph, importances(self.graph, 0), self.allocation, 0)
        self.imported: ImportedModel = import_model(self.model)
        self.imported.module.eval()
        self.restriction = Restriction(self.imported, self.graph, layout, self.allocation)

    def written(self) -> ir.Model:
        """The model with the weights as they are."""
        model = self.model.clone(deep_copy=True)
        self.imported.write_back(model)
        return model

    def weights(self) -> dict[str, np.ndarray]:
        """Weights as they are, in the axes of the ONNX model."""
        model = self.written()
        return {e.weight: array(model, e.weight) for e in self.graph.edges}

    def importance(self) -> Importance:
        return weight_energy(self.written(), self.graph)

    def go(self, progress: float) -> None:
        """What training does before a step."""
        if self.restriction.due(progress):
            layout = self.restriction.next_layout(progress, self.importance())
            self.restriction.cut(progress, layout)
        self.restriction.hold()

    def zeros(self) -> dict[str, np.ndarray]:
        return {name: weight == 0 for name, weight in self.weights().items()}

    def stored(self) -> int:
        layout = self.restriction.layout
        return round((1 - layout.physical_ratio(self.graph)) * self.graph.weights)

    def inputs(self) -> np.ndarray:
        shape = list(self.model.graph.inputs[0].shape or ())[1:]
        return normal(9, 4, *(int(d) for d in shape))

    def output(self) -> np.ndarray:
        with torch.no_grad():
            return self.imported.module(torch.from_numpy(self.inputs())).numpy()

    def train(self, steps: int = 1) -> None:
        """Steps of an optimiser that moves what is zero, too."""
        parameters = list(self.imported.module.parameters())
        optimizer = torch.optim.AdamW(parameters, lr=0.01)
        for _ in range(steps):
            optimizer.zero_grad()
            self.imported.module(torch.from_numpy(self.inputs())).square().mean().backward()
            optimizer.step()


@pytest.fixture(params=MODELS)
def setting(request: pytest.FixtureRequest) -> Setting:
    return Setting(request.param)


def test_before_the_first_cut_nothing_changes(setting: Setting) -> None:
    before = setting.output()
    setting.restriction.hold()
    np.testing.assert_array_equal(setting.output(), before)
    for name, weight in setting.weights().items():
        np.testing.assert_array_equal(weight, array(setting.model, name))


@pytest.mark.parametrize("straight", [True, False])
def test_it_ends_exactly_at_the_allocation(setting: Setting, straight: bool) -> None:
    for progress in (1.0,) if straight else np.linspace(0, 1, 101):
        setting.go(progress)
    layout, allocation = setting.restriction.layout, setting.allocation
    assert setting.stored() == allocation.weights
    for g, group in enumerate(setting.graph.groups):
        if group.frozen is None:
            labels = layout.labels[group.channels]
            k = int(allocation.clusters[g])
            each = np.bincount(labels[labels >= 0], minlength=k)
            assert each.tolist() == [allocation.widths[g] // k] * k
    assert layout.selections.keys() == allocation.fan_in.keys()
    for name, selection in layout.selections.items():
        assert set(selection.sum(axis=0).tolist()) == {allocation.fan_in[name]}
    for edge in setting.graph.edges:
        mask = layout.edge_mask(setting.graph, edge)
        weight, dense = setting.weights()[edge.weight], array(setting.model, edge.weight)
        if edge.out_axis != 0:
            weight, dense = weight.T, dense.T
        assert (weight[~mask] == 0).all()
        # What went and came back in between comes back as zero.
        there = weight[mask] != 0
        assert there.mean() > 0.9
        assert not straight or there.all()
        np.testing.assert_array_equal(weight[mask][there], dense[mask][there])


def test_at_the_end_the_module_computes_what_the_masked_model_computes(setting: Setting) -> None:
    """Also where two layers share a weight: both are restricted."""
    setting.go(1.0)
    masked = masked_copy(setting.model, setting.graph, setting.restriction.layout)
    np.testing.assert_allclose(setting.output(), run(masked, setting.inputs()), 1e-4, 1e-5)


def test_cuts_are_due_on_their_schedule() -> None:
    setting = Setting("mlp")
    due = []
    for step in range(1000):
        if setting.restriction.due(step / 1000):
            due.append(step / 1000)
            setting.go(step / 1000)
    assert len(due) == CUTS
    assert due[0] == 0.0
    assert due[-1] <= RESTRICTED_AT * (CUTS - 1) / CUTS + 1e-3
    np.testing.assert_allclose(np.diff(due), RESTRICTED_AT / CUTS, atol=1.1e-3)
    assert not setting.restriction.due(1.0)


def test_what_is_stored_falls_on_the_cubic_schedule_and_never_jumps() -> None:
    setting = Setting("cnn")
    counts = [setting.graph.weights]
    for i in range(CUTS):
        setting.go((i + 0.5) * RESTRICTED_AT / CUTS)
        counts.append(setting.stored())
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == setting.allocation.weights
    falls = -np.diff(counts)
    # The first cuts take more than the last third, and none takes a fifth of what has to go.
    assert falls[:3].sum() > falls[-CUTS // 3 :].sum()
    assert falls.max() < 0.2 * falls.sum()


def test_what_the_layout_leaves_out_stays_zero(setting: Setting) -> None:
    setting.imported.module.train()
    stored = setting.graph.weights
    for progress in np.linspace(0, 1, 30):
        setting.go(progress)
        assert setting.stored() <= stored
        stored = setting.stored()
        setting.train()
        setting.restriction.hold()
        for edge in setting.graph.edges:
            weight = np.moveaxis(setting.weights()[edge.weight], edge.out_axis, 0)
            mask = setting.restriction.layout.edge_mask(setting.graph, edge)
            assert (weight[~mask] == 0).all()
            assert weight[mask].any()


def test_what_comes_back_starts_from_zero(setting: Setting) -> None:
    """A channel that goes to another cluster reads inputs that it did not read before."""
    for progress in np.linspace(0, 1, 30):
        zero = setting.zeros()
        setting.go(progress)
        for name, now in setting.zeros().items():
            assert now[zero[name]].all()
        setting.train()
        setting.restriction.hold()


def test_a_cut_takes_what_matters_least() -> None:
    setting = Setting("mlp")
    dense = setting.importance()
    setting.go(0.0)
    edges = channel_edges(setting.graph, dense)
    first = objective(setting.restriction.layout, edges)
    rng = np.random.default_rng(0)
    for _ in range(20):
        shuffled = {name: rng.permutation(scores.ravel()) for name, scores in dense.items()}
        other = setting.restriction.next_layout(
            0.0, {name: s.reshape(dense[name].shape) for name, s in shuffled.items()}
        )
        assert objective(other, edges) <= first + 1e-9


def test_the_layout_follows_what_training_makes_of_the_weights() -> None:
    setting = Setting("mlp")
    for progress in (0.0, 0.1, 0.2):
        setting.go(progress)
    before = setting.restriction.layout
    edge = next(e for e in setting.graph.edges if e.name in before.selections)
    scores = dict(setting.importance())
    # Of what one cluster reads, the least important input becomes the most important one.
    read = np.flatnonzero(before.selections[edge.name].any(axis=1))
    least = read[np.argmin(scores[edge.name].sum(axis=0)[read])]
    scores[edge.name] = scores[edge.name].copy()
    scores[edge.name][:, least] = 1e3 * scores[edge.name].max()
    found = setting.restriction.next_layout(1.0, scores)
    assert found.selections[edge.name][least].all()


@pytest.mark.parametrize("at", [0.0, 0.3, 1.0])
def test_state_makes_the_round_trip(setting: Setting, at: float) -> None:
    setting.go(at)
    other = Setting(setting.kind)
    other.restriction.load_state(setting.restriction.state())
    other.restriction.hold()
    first, second = setting.restriction.layout, other.restriction.layout
    np.testing.assert_array_equal(first.labels, second.labels)
    assert first.selections.keys() == second.selections.keys()
    for name, selection in first.selections.items():
        np.testing.assert_array_equal(selection, second.selections[name])
        assert second.selections[name].dtype == np.bool_
    for progress in (at, 0.5, 1.0):
        assert setting.restriction.due(progress) == other.restriction.due(progress)
        setting.go(progress)
        other.go(progress)
        np.testing.assert_array_equal(other.output(), setting.output())
