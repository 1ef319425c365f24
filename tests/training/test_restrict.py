"""Restriction: from the dense weights to exactly the mask of the layout, without a jump."""

import numpy as np
import onnx_ir as ir
import pytest
import torch
from training_models import array, channels, cnn, importances, mlp, normal, parse, run

from crespr_onnx.layout import DROPPED, ChannelGraph, Layout
from crespr_onnx.stages.masking import masked_copy
from crespr_onnx.training.allocate import allocate
from crespr_onnx.training.channel_edges import channel_importance
from crespr_onnx.training.cluster import cluster
from crespr_onnx.training.importer import ImportedModel, import_model
from crespr_onnx.training.restrict import ANNEALED_AT, Restriction

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
    """A CNN with room for two clusters of eight channels."""
    return cnn((16, 24))


MODELS = {"mlp": mlp, "cnn": wide_cnn, "shared": shared}


class Setting:
    """A model, a layout with dropped channels and two clusters, and its restriction."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.model = MODELS[kind]()
        self.graph: ChannelGraph = channels(self.model)
        edges = importances(self.graph, 0)
        self.layout: Layout = cluster(self.graph, edges, allocate(self.graph, 2, 0.7), 0)
        assert (self.layout.labels == DROPPED).any()
        assert max(self.layout.edge_clusters(self.graph, e) for e in self.graph.edges) == 2
        self.importance = channel_importance(self.graph, edges)
        self.imported: ImportedModel = import_model(self.model)
        self.imported.module.eval()
        self.restriction = Restriction(self.imported, self.graph, self.layout, self.importance)

    def weights(self) -> dict[str, np.ndarray]:
        """Weights in effect, in the axes of the ONNX model."""
        model = self.model.clone(deep_copy=True)
        self.imported.write_back(model)
        return {e.weight: array(model, e.weight) for e in self.graph.edges}

    def factors(self) -> dict[str, np.ndarray]:
        """Weights in effect over those of the dense model, [n_out, n_in] per edge."""
        found = {}
        for e in self.graph.edges:
            ratio = self.weights()[e.weight] / array(self.model, e.weight)
            while ratio.ndim > 2:
                np.testing.assert_allclose(ratio.min(axis=-1), ratio.max(axis=-1), atol=1e-6)
                ratio = ratio[..., 0]
            found[e.name] = ratio if e.out_axis == 0 else ratio.T
        return found

    def output(self) -> np.ndarray:
        x = normal(9, 4, *(int(d) for d in list(self.model.graph.inputs[0].shape or ())[1:]))
        with torch.no_grad():
            return self.imported.module(torch.from_numpy(x)).numpy()


@pytest.fixture(params=MODELS)
def setting(request: pytest.FixtureRequest) -> Setting:
    return Setting(request.param)


def test_at_the_start_nothing_changes(setting: Setting) -> None:
    before = setting.output()
    setting.restriction.advance(0.0)
    np.testing.assert_array_equal(setting.output(), before)
    for name, weight in setting.weights().items():
        np.testing.assert_array_equal(weight, array(setting.model, name))


def test_at_the_end_exactly_the_mask_is_left(setting: Setting) -> None:
    setting.restriction.advance(1.0)
    for edge in setting.graph.edges:
        mask = setting.layout.edge_mask(setting.graph, edge)
        np.testing.assert_array_equal(setting.factors()[edge.name], mask.astype(np.float32))


def test_at_the_end_the_module_computes_what_the_masked_model_computes(setting: Setting) -> None:
    """Also where two layers share a weight: both are restricted."""
    masked = masked_copy(setting.model, setting.graph, setting.layout)
    x = normal(9, 4, *(int(d) for d in list(setting.model.graph.inputs[0].shape or ())[1:]))
    for phase in (lambda: setting.restriction.advance(1.0), setting.restriction.commit):
        phase()
        np.testing.assert_allclose(setting.output(), run(masked, x), rtol=1e-4, atol=1e-5)


def test_the_end_comes_before_the_end_of_the_phase(setting: Setting) -> None:
    setting.restriction.advance(ANNEALED_AT)
    early = setting.weights()
    setting.restriction.advance(1.0)
    for name, weight in setting.weights().items():
        np.testing.assert_allclose(early[name], weight, atol=1e-6)


def test_factors_fall_steadily_and_never_jump(setting: Setting) -> None:
    last = {e.name: 1.0 for e in setting.graph.edges}
    for progress in np.linspace(0, 1, 51):
        setting.restriction.advance(progress)
        for name, factor in setting.factors().items():
            assert (factor <= last[name] + 1e-6).all()
            assert (factor >= last[name] - 0.2).all()
            last[name] = factor


def test_halfway_connections_between_clusters_count_by_alpha() -> None:
    setting = Setting("mlp")
    middle = ANNEALED_AT / 2
    assert setting.restriction.alpha(middle) == pytest.approx(0.5)
    setting.restriction.advance(middle)
    (edge,) = [e for e in setting.graph.edges if e.weight == "w2"]
    labels = setting.layout.labels
    found = setting.factors()[edge.name]
    compared = 0
    for j, out in enumerate(labels[edge.out_channels]):
        for i, into in enumerate(labels[edge.in_channels]):
            if DROPPED not in (out, into):
                compared += out != into
                assert found[j, i] == pytest.approx(1.0 if out == into else 0.5, abs=1e-6)
    assert compared > 0


def test_less_important_channels_leave_first() -> None:
    setting = Setting("cnn")
    gone: dict[int, float] = {}
    for progress in np.linspace(0, 1, 201):
        setting.restriction.advance(progress)
        for edge in setting.graph.edges:
            rows = setting.factors()[edge.name].max(axis=1)
            for channel in edge.out_channels[rows < 1e-6]:
                gone.setdefault(int(channel), progress)
    for group in setting.graph.groups:
        dropped = group.channels[setting.layout.labels[group.channels] == DROPPED]
        order = dropped[np.argsort(setting.importance[dropped])]
        times = [gone[int(channel)] for channel in order]
        assert times == sorted(times)
        assert len(order) < 2 or times[0] < times[-1]


def test_lifted_weights_are_dense_and_come_back(setting: Setting) -> None:
    dense = setting.output()
    setting.restriction.advance(0.6)
    restricted = setting.output()
    assert np.abs(restricted - dense).max() > 1e-3
    with setting.restriction.lifted():
        np.testing.assert_array_equal(setting.output(), dense)
    np.testing.assert_array_equal(setting.output(), restricted)
    with pytest.raises(ZeroDivisionError), setting.restriction.lifted():
        raise ZeroDivisionError
    np.testing.assert_array_equal(setting.output(), restricted)


def test_state_makes_the_round_trip(setting: Setting) -> None:
    other = Setting(setting.kind)
    rng = np.random.default_rng(0)
    labels = setting.layout.labels.copy()
    for group in setting.graph.groups:
        labels[group.channels] = rng.permutation(labels[group.channels])
    changed = Layout(labels, setting.layout.clusters)
    setting.restriction.relabel(changed, rng.random(setting.graph.n_channels))
    other.restriction.load_state(setting.restriction.state())
    np.testing.assert_array_equal(other.restriction.layout.labels, labels)
    for progress in (0.2, 0.5, 1.0):
        setting.restriction.advance(progress)
        other.restriction.advance(progress)
        np.testing.assert_array_equal(other.output(), setting.output())


def test_relabelling_changes_what_is_left_in_the_end() -> None:
    setting = Setting("mlp")
    labels = setting.layout.labels.copy()
    for group in setting.graph.groups:
        kept = group.channels[labels[group.channels] != DROPPED]
        labels[kept] = np.roll(labels[kept], 1)
    changed = Layout(labels, setting.layout.clusters)
    setting.restriction.advance(0.3)
    setting.restriction.relabel(changed, setting.importance)
    setting.restriction.advance(1.0)
    for edge in setting.graph.edges:
        mask = changed.edge_mask(setting.graph, edge)
        np.testing.assert_array_equal(setting.factors()[edge.name], mask.astype(np.float32))


def test_what_is_trained_meanwhile_stays_when_it_ends(setting: Setting) -> None:
    parameters = dict(setting.imported.module.named_parameters())
    optimizer = torch.optim.SGD(parameters.values(), lr=0.01)
    for progress in (0.3, 1.0):
        setting.restriction.advance(progress)
        optimizer.zero_grad()
        shape = [int(d) for d in list(setting.model.graph.inputs[0].shape or ())[1:]]
        x = torch.from_numpy(normal(8, 4, *shape))
        setting.imported.module(x).square().mean().backward()
        optimizer.step()
    trained = setting.output()
    setting.restriction.commit()
    np.testing.assert_allclose(setting.output(), trained, rtol=1e-6, atol=1e-7)
    for edge in setting.graph.edges:
        mask = setting.layout.edge_mask(setting.graph, edge)
        weight = setting.weights()[edge.weight]
        assert (np.moveaxis(weight, edge.out_axis, 0)[~mask] == 0).all()
    assert not any("parametrizations" in n for n, _ in setting.imported.module.named_parameters())
