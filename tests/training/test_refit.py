"""The re-fit of whole models, layer after layer."""

import numpy as np
import onnx_ir as ir
import pytest
import torch
from training_models import array, channels, cnn, mlp, normal, parse, run

from crespr_onnx.layout import BoolArray, ChannelGraph
from crespr_onnx.training.calibration import stream_moments
from crespr_onnx.training.importer import ImportedModel, import_model
from crespr_onnx.training.matrices import set_weight_matrix, weight_matrix
from crespr_onnx.training.objective import Batch
from crespr_onnx.training.offsets import Kind, Offset, find_offsets
from crespr_onnx.training.refit import Refit, refit
from crespr_onnx.training.second_order import cut_cost

torch.set_num_threads(1)

MODELS = {"mlp": (mlp, (40, 6)), "cnn": (cnn, (12, 1, 6, 6))}


def batches(x: np.ndarray, size: int = 10) -> list[Batch]:
    return [
        Batch((torch.from_numpy(x[i : i + size]),), (None,), None) for i in range(0, len(x), size)
    ]


def random_masks(graph: ChannelGraph, seed: int) -> dict[str, BoolArray]:
    """About half of all connections, in rows of a few patterns that overlap."""
    rng = np.random.default_rng(seed)
    masks = {}
    for e in graph.edges:
        patterns = rng.random((3, len(e.in_channels))) < 0.5
        patterns[:, 0] = True
        masks[e.name] = patterns[rng.integers(0, 3, len(e.out_channels))]
    return masks


def imported_twice(
    model: ir.Model, graph: ChannelGraph, masks: dict[str, BoolArray]
) -> tuple[ImportedModel, ImportedModel]:
    """The model as it is and with zeros outside the masks, both in float64."""
    dense, masked = import_model(model), import_model(model)
    for imported in (dense, masked):
        imported.module.double()
    for edge in graph.edges:
        kept = np.repeat(masks[edge.name], edge.kernel, axis=1)
        set_weight_matrix(masked, edge, np.where(kept, weight_matrix(masked, edge), 0.0))
    return dense, masked


def refitted(
    model: ir.Model, x: np.ndarray, masks: dict[str, BoolArray], damping: float = 0.01
) -> tuple[Refit, ImportedModel, ImportedModel]:
    graph = channels(model)
    dense, masked = imported_twice(model, graph, masks)
    data = batches(x.astype(np.float64))
    found = refit(dense, masked, graph, masks, find_offsets(model, graph), data, damping)
    return found, dense, masked


def full_masks(graph: ChannelGraph) -> dict[str, BoolArray]:
    return {
        e.name: np.ones((len(e.out_channels), len(e.in_channels)), dtype=bool) for e in graph.edges
    }


@pytest.mark.parametrize("kind", MODELS)
def test_a_layer_loses_what_was_predicted(kind: str) -> None:
    make, shape = MODELS[kind]
    model, x = make(), normal(1, *shape)
    graph = channels(model)
    # Nothing is cut before the second layer, so it reads what it reads in the dense model.
    edge = graph.edges[1]
    masks = full_masks(graph) | {edge.name: random_masks(graph, 2)[edge.name]}
    found, dense, _ = refitted(model, x, masks, damping=0.0)
    ((_, exact),) = stream_moments(dense, [edge], batches(x.astype(np.float64)))
    bias = array(model, "b2") if kind == "mlp" else np.zeros(len(edge.out_channels))
    weight = np.column_stack([weight_matrix(dense, edge), bias])
    has_bias = np.full((len(weight), 1), kind == "mlp")
    kept = np.column_stack([np.repeat(masks[edge.name], edge.kernel, axis=1), has_bias])
    predicted = cut_cost(weight, exact.gram, kept, damping=0.0).sum()
    assert predicted > 0.1
    assert found.layers[1].edge == edge.name
    assert found.layers[1].refitted == pytest.approx(predicted, rel=1e-8)


def test_the_loss_that_is_told_is_that_of_the_models() -> None:
    model, x = mlp(), normal(1, 40, 6)
    graph = channels(model)
    found, dense, compressed = refitted(model, x, random_masks(graph, 2))
    with torch.no_grad():
        answers = [m.module(torch.from_numpy(x).double()) for m in (dense, compressed)]
    told = found.layers[-1]
    assert told.edge == graph.edges[-1].name
    distance = float((answers[0] - answers[1]).square().sum(dim=1).mean())
    assert told.refitted == pytest.approx(distance, rel=1e-8)
    assert told.energy == pytest.approx(float(answers[0].square().sum(dim=1).mean()), rel=1e-8)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", MODELS)
def test_no_layer_is_worse_than_masked(kind: str, seed: int) -> None:
    make, shape = MODELS[kind]
    model = make()
    found, _, _ = refitted(model, normal(1, *shape), random_masks(channels(model), seed))
    assert len(found.layers) == 3
    assert found.skipped == {}
    for layer in found.layers:
        assert layer.refitted <= layer.masked * (1 + 1e-9)


@pytest.mark.parametrize("kind", MODELS)
def test_the_model_is_closer_to_the_dense_one_and_keeps_its_zeros(kind: str) -> None:
    make, shape = MODELS[kind]
    model, x = make(), normal(1, *shape)
    graph = channels(model)
    masks = random_masks(graph, 4)
    dense, masked = imported_twice(model, graph, masks)
    inputs = torch.from_numpy(x).double()
    for imported in (dense, masked):
        imported.module.eval()
    _, _, compressed = refitted(model, x, masks)
    with torch.no_grad():
        wanted, before, after = (m.module(inputs) for m in (dense, masked, compressed))
    assert (wanted - after).square().mean() < 0.5 * (wanted - before).square().mean()
    for edge in graph.edges:
        gone = ~np.repeat(masks[edge.name], edge.kernel, axis=1)
        assert (weight_matrix(compressed, edge)[gone] == 0).all()


def test_a_full_mask_gives_the_weights_back() -> None:
    model = mlp()
    graph = channels(model)
    _, dense, compressed = refitted(model, normal(1, 40, 6), full_masks(graph))
    for name in dense.bindings:
        torch.testing.assert_close(
            compressed.tensor(name), dense.tensor(name), rtol=1e-8, atol=1e-9
        )


def test_a_following_batchnorm_gets_the_statistics_of_the_new_answers() -> None:
    text = """g (float[N, 2, 4, 4] x) => (float[N, 3] z) {
        c = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, w)
        n = BatchNormalization (c, scale, shift, mean, var)
        p = GlobalAveragePool (n)
        z = Flatten (p)
    }"""
    model = parse(
        text, w=normal(1, 3, 2, 3, 3), scale=normal(2, 3), shift=normal(3, 3),
        mean=normal(4, 3), var=np.abs(normal(5, 3)) + 1,
    )  # fmt: skip
    x = normal(6, 12, 2, 4, 4)
    (edge,) = channels(model).edges
    mask = np.array([[True, False], [False, True], [True, True]])
    found, _, compressed = refitted(model, x, {edge.name: mask})
    w = torch.from_numpy(weight_matrix(compressed, edge)).reshape(3, 2, 3, 3)
    answers = torch.conv2d(torch.from_numpy(x).double(), w, padding=1)
    torch.testing.assert_close(compressed.tensor("mean"), answers.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(
        compressed.tensor("var"), answers.var(dim=(0, 2, 3), correction=0), rtol=1e-9, atol=1e-12
    )
    assert found.layers[0].refitted < found.layers[0].masked


def test_a_shared_weight_is_left_as_it_is() -> None:
    text = """g (float[N, 4] x) => (float[N, 4] z) {
        [one] a = MatMul (x, w)
        r = Relu (a)
        [two] b = MatMul (r, w)
        s = Relu (b)
        [three] z = MatMul (s, v)
    }"""
    model = parse(text, w=normal(1, 4, 4), v=normal(2, 4, 4))
    graph = channels(model)
    masks = {e.name: np.tril(np.ones((4, 4), dtype=bool)) for e in graph.edges}
    found, dense, compressed = refitted(model, normal(3, 30, 4), masks)
    reason = "its weight 'w' is shared with another operator"
    assert found.skipped == {"one": reason, "two": reason}
    assert [layer.edge for layer in found.layers] == ["three"]
    np.testing.assert_array_equal(
        compressed.tensor("w").detach(), dense.tensor("w").detach() * torch.ones(4, 4).triu()
    )


def test_layers_that_see_no_numbers_are_left_as_they_are() -> None:
    text = """g (float[N, 4] x) => (float[N, 2] z) {
        a = Log (x)
        z = MatMul (a, w)
    }"""
    model = parse(text, w=normal(1, 4, 2))
    (edge,) = channels(model).edges
    mask = np.ones((2, 4), dtype=bool)
    found, dense, compressed = refitted(model, normal(2, 20, 4), {edge.name: mask})
    assert found.skipped == {edge.name: "what it reads or answers is not finite"}
    assert torch.equal(compressed.tensor("w"), dense.tensor("w"))


def test_the_new_weights_go_back_into_the_onnx_model() -> None:
    model, x = cnn(), normal(1, 12, 1, 6, 6)
    graph = channels(model)
    masks = random_masks(graph, 1)
    dense, compressed = import_model(model), import_model(model)
    for edge in graph.edges:
        kept = np.repeat(masks[edge.name], edge.kernel, axis=1)
        set_weight_matrix(compressed, edge, np.where(kept, weight_matrix(compressed, edge), 0.0))
    refit(dense, compressed, graph, masks, find_offsets(model, graph), batches(x))
    written = model.clone(deep_copy=True)
    compressed.write_back(written)
    with torch.no_grad():
        expected = compressed.module.eval()(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(run(written, x), expected, rtol=1e-4, atol=1e-5)


def offsets_of(text: str, **arrays: np.ndarray) -> dict[str, Offset]:
    model = parse(f"g (float[N, 4] x) => (float[N, 3] z) {{ {text} }}", **arrays)
    return dict(find_offsets(model, channels(model)))


W, B = normal(1, 4, 3), normal(2, 3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[e] z = Gemm (x, w, b)", Offset("b", Kind.BIAS)),
        ("[e] z = Gemm <alpha = 2.0> (x, w, b)", None),
        ("[e] z = MatMul (x, w)", None),
        ("[e] h = MatMul (x, w) z = Add (h, b)", Offset("b", Kind.ADDED)),
        ("[e] h = MatMul (x, w) z = Add (b, h)", Offset("b", Kind.ADDED)),
        ("[e] h = MatMul (x, w) k = Add (h, b) z = Add (k, b)", None),
        ("[e] h = MatMul (x, w) k = Add (h, b) z = Mul (k, h)", None),
        ("[e] h = MatMul (x, w) z = Sub (h, b)", None),
    ],
)
def test_where_the_offset_of_an_edge_lives(text: str, expected: Offset | None) -> None:
    found = offsets_of(text, w=W, b=B)
    assert found == ({} if expected is None else {"e": expected})


def test_the_offset_before_a_batchnorm_is_its_mean() -> None:
    text = "[e] h = MatMul (x, w) z = BatchNormalization (h, s, b, m, v)"
    found = offsets_of(text, w=W, b=B, s=B + 1, m=B + 2, v=np.abs(B) + 1)
    assert found == {"e": Offset("m", Kind.MEAN, "v")}


def test_statistics_that_two_layers_share_belong_to_neither() -> None:
    text = """[e] h = MatMul (x, w) k = BatchNormalization (h, s, b, m, v)
              z = BatchNormalization (k, s, b, m, v)"""
    assert offsets_of(text, w=W, b=B, s=B + 1, m=B + 2, v=np.abs(B) + 1) == {}
