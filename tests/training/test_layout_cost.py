"""The share of a layer's answers that a layout loses, against least squares on the samples."""

import numpy as np
import pytest
import torch
from training_models import array, channels, mlp, normal

from crespr_onnx.layout import BoolArray, ChannelGraph
from crespr_onnx.training.importer import import_model
from crespr_onnx.training.layout_cost import lost_shares
from crespr_onnx.training.objective import Batch

torch.set_num_threads(1)

X = normal(1, 60, 6)
BATCHES = [Batch((torch.from_numpy(X[i : i + 20]),), (None,), None) for i in (0, 20, 40)]


def masks_of(graph: ChannelGraph, share: float) -> dict[str, BoolArray]:
    rng = np.random.default_rng(3)
    return {
        e.name: rng.random((len(e.out_channels), len(e.in_channels))) < share for e in graph.edges
    }


def test_the_share_is_what_least_squares_leaves_unexplained() -> None:
    model = mlp()
    graph = channels(model)
    masks = masks_of(graph, 0.5)
    edge = graph.edges[0]
    masks[edge.name][2] = False  # an output that is gone: it counts for nothing
    (found,) = lost_shares(import_model(model), graph, [masks], BATCHES, damping=0.0)
    x = X.astype(np.float64)
    y = x @ array(model, "w1").astype(np.float64).T
    left = total = 0.0
    for row, mask in enumerate(masks[edge.name]):
        if mask.any():
            read = np.column_stack([x[:, mask], np.ones(len(x))])
            best = np.linalg.lstsq(read, y[:, row], rcond=None)[0]
            left += ((y[:, row] - read @ best) ** 2).mean()
            total += y[:, row].var()
    assert 0.1 < left / total < 0.9
    assert found[edge.name] == pytest.approx(left / total, rel=1e-5)


def test_candidates_are_compared_on_the_same_moments() -> None:
    model = mlp()
    graph = channels(model)
    imported = import_model(model)
    candidates = [masks_of(graph, share) for share in (0.2, 0.6, 1.1)]
    found = lost_shares(imported, graph, candidates, BATCHES)
    assert [list(shares) for shares in found] == [[e.name for e in graph.edges]] * 3
    for edge in graph.edges:
        few, many, every = (shares[edge.name] for shares in found)
        assert 1 >= few > many > every == 0
    (alone,) = lost_shares(imported, graph, candidates[1:2], BATCHES)
    assert alone == found[1]


def test_a_layer_of_which_nothing_is_left_loses_nothing_that_is_read() -> None:
    model = mlp()
    graph = channels(model)
    (found,) = lost_shares(import_model(model), graph, [masks_of(graph, -1.0)], BATCHES)
    assert set(found.values()) == {0.0}
