"""Moments of what layers read and answer against loops over every sample, place and tap."""

import gc
import itertools

import numpy as np
import onnx_ir as ir
import pytest
import torch
from training_models import array, channels, cnn, mlp, normal, parse

from crespr_onnx.layout import WeightedEdge
from crespr_onnx.training import patches
from crespr_onnx.training.calibration import Moments, MomentSums, inner_values, stream_moments
from crespr_onnx.training.importer import ImportedModel, import_model
from crespr_onnx.training.matrices import set_weight_matrix, weight_matrix
from crespr_onnx.training.objective import Batch
from crespr_onnx.training.patches import POSITIONS, why_unreadable

torch.set_num_threads(1)


def batches(x: np.ndarray, size: int) -> list[Batch]:
    return [
        Batch((torch.from_numpy(x[i : i + size]),), (None,), None) for i in range(0, len(x), size)
    ]


def one_conv(shape: str, attributes: str, *weight: int) -> ir.Model:
    """A convolution of one, two or three axes between two that make its channels free."""
    text = f"""g (float[N, {shape}] x) => (float[N, {weight[0]}] z) {{
        y = Conv <{attributes}> (x, w, b)
        p = GlobalAveragePool (y)
        z = Flatten (p)
    }}"""
    return parse(text, w=normal(1, *weight), b=normal(2, weight[0]))


def of_edge(model: ir.Model, x: np.ndarray, size: int = 3) -> tuple[WeightedEdge, Moments]:
    graph = channels(model)
    imported = import_model(model)
    imported.module.double()
    (found,) = stream_moments(imported, graph.edges, batches(x.astype(np.float64), size))
    return found


@pytest.mark.parametrize(
    ("shape", "attributes", "weight"),
    [
        ("2, 5, 6", "kernel_shape = [3, 2], strides = [2, 1], pads = [1, 0, 1, 0]", (3, 2, 3, 2)),
        ("2, 7, 6", "kernel_shape = [2, 3], dilations = [3, 2], pads = [2, 1, 2, 1]", (3, 2, 2, 3)),
        ("2, 4, 5", "kernel_shape = [2, 2], pads = [0, 1, 1, 0]", (3, 2, 2, 2)),
        ("2, 4, 5", 'kernel_shape = [2, 2], auto_pad = "SAME_UPPER"', (3, 2, 2, 2)),
        ("2, 9", "kernel_shape = [3], strides = [2], pads = [1, 1]", (3, 2, 3)),
        ("2, 3, 3, 3", "kernel_shape = [2, 2, 2], strides = [1, 1, 1]", (3, 2, 2, 2, 2)),
    ],
    ids=["stride", "dilation", "lopsided", "same", "1d", "3d"],
)
def test_patches_are_what_the_convolution_multiplies(
    shape: str, attributes: str, weight: tuple[int, ...]
) -> None:
    """All answers are linear in the rows, with exactly the weights of the layer."""
    model = one_conv(shape, attributes, *weight)
    x = normal(5, 7, *(int(n) for n in shape.split(",")))
    _, found = of_edge(model, x)
    w, b = (array(model, n).astype(np.float64) for n in "wb")
    whole = np.column_stack([w.reshape(len(w), -1), b])
    np.testing.assert_allclose(found.cross, whole @ found.gram, rtol=1e-9, atol=1e-12)
    energy = np.einsum("ja,ab,jb->j", whole, found.gram, whole)
    np.testing.assert_allclose(found.energy, energy, rtol=1e-9)


def test_the_gram_of_a_convolution_is_that_of_its_patches() -> None:
    model = one_conv("2, 4, 4", "kernel_shape = [3, 3], pads = [1, 1, 1, 1]", 3, 2, 3, 3)
    x = normal(5, 4, 2, 4, 4)
    _, found = of_edge(model, x)
    padded = np.pad(x.astype(np.float64), [(0, 0), (0, 0), (1, 1), (1, 1)])
    expected, count = np.zeros((19, 19)), 0
    for s, r, c in itertools.product(range(4), range(4), range(4)):
        row = np.append(padded[s, :, r : r + 3, c : c + 3].reshape(-1), 1.0)
        expected += np.outer(row, row)
        count += 1
    assert found.rows == count == 64
    np.testing.assert_allclose(found.gram, expected / count, rtol=1e-10)


def test_dense_layers_read_one_row_per_sample_and_position() -> None:
    text = """g (float[N, 3, 4] x) => (float[N, 3, 2] z) {
        h = MatMul (x, w)
        r = Relu (h)
        z = MatMul (r, v)
    }"""
    model = parse(text, w=normal(1, 4, 5), v=normal(2, 5, 2))
    imported = import_model(model)
    x = normal(3, 6, 3, 4)
    moments = stream_moments(imported, channels(model).edges, batches(x, 4))
    found = {edge.weight: m for edge, m in moments}
    flat = np.column_stack([x.reshape(-1, 4), np.ones(18)]).astype(np.float64)
    np.testing.assert_allclose(found["w"].gram, flat.T @ flat / 18, rtol=1e-6)
    hidden = flat[:, :4] @ array(model, "w").astype(np.float64)
    np.testing.assert_allclose(found["w"].cross, hidden.T @ flat / 18, rtol=1e-4, atol=1e-6)
    assert (found["w"].rows, found["v"].rows) == (18, 18)


def test_what_is_held_does_not_grow_with_the_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    model = cnn()
    graph, imported = channels(model), import_model(model)
    add, held = MomentSums.add, []

    def counting(self: MomentSums, x: torch.Tensor, y: torch.Tensor) -> None:
        alive = [o for o in gc.get_objects() if type(o) is torch.Tensor]
        held.append(sum(t.numel() for t in alive))
        add(self, x, y)

    monkeypatch.setattr(MomentSums, "add", counting)
    found = list(stream_moments(imported, graph.edges, batches(normal(1, 4, 1, 6, 6), 4) * 20))
    assert [m.rows for _, m in found] == [20 * 4 * 36, 20 * 4 * 9, 20 * 4]
    # Three edges in each of twenty batches: the last one sees no more than the second.
    assert max(held[3:6]) == max(held[-3:])


def test_sums_hold_as_many_numbers_after_many_rows() -> None:
    sums = MomentSums(4, 2)

    def held() -> int:
        return sum(t.numel() for t in vars(sums).values() if isinstance(t, torch.Tensor))

    before = held()
    for _ in range(50):
        sums.add(torch.ones(100, 4), torch.ones(100, 2))
    assert held() == before == 16 + 4 + 8 + 2 + 2
    assert sums.means().rows == 5000
    np.testing.assert_array_equal(sums.means().gram, np.ones((5, 5)))


def test_blocks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    model = cnn()
    graph, imported = channels(model), import_model(model)
    whole = [
        m.gram for _, m in stream_moments(imported, graph.edges, batches(normal(1, 8, 1, 6, 6), 8))
    ]
    monkeypatch.setattr(patches, "BLOCK", 700)
    sizes = []
    add = MomentSums.add

    def spy(self: MomentSums, x: torch.Tensor, y: torch.Tensor) -> None:
        sizes.append(x.numel())
        add(self, x, y)

    monkeypatch.setattr(MomentSums, "add", spy)
    parts = [
        m.gram for _, m in stream_moments(imported, graph.edges, batches(normal(1, 8, 1, 6, 6), 8))
    ]
    assert max(sizes) <= 700
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_of_many_positions_some_are_drawn() -> None:
    model = one_conv("1, 12, 12", "kernel_shape = [3, 3]", 2, 1, 3, 3)
    _, found = of_edge(model, normal(1, 5, 1, 12, 12), size=5)
    assert found.rows == 5 * POSITIONS < 5 * 100
    again = of_edge(model, normal(1, 5, 1, 12, 12), size=5)[1]
    np.testing.assert_array_equal(found.gram, again.gram)


def test_inner_values_use_the_weights_of_the_model_itself() -> None:
    model = mlp()
    graph, imported = channels(model), import_model(model)
    inner = inner_values(imported, [graph.edges[1]])
    x = torch.from_numpy(normal(1, 2, 6))
    with torch.no_grad():
        before = inner(x)[0][1].clone()
        imported.tensor(graph.edges[1].weight).mul_(2.0)
        after = inner(x)[0][1]
    torch.testing.assert_close(after, 2 * before)


def test_edges_take_turns_where_their_moments_would_be_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = mlp()
    graph, imported = channels(model), import_model(model)
    together = [
        m.gram for _, m in stream_moments(imported, graph.edges, batches(normal(1, 8, 6), 4))
    ]
    monkeypatch.setattr("crespr_onnx.training.calibration.AT_ONCE", 1)
    found = list(stream_moments(imported, graph.edges, batches(normal(1, 8, 6), 4)))
    assert [e.weight for e, _ in found] == ["w1", "w2", "w3"]
    for a, (_, b) in zip(together, found, strict=True):
        np.testing.assert_array_equal(a, b.gram)


def reasons(imported: ImportedModel, model: ir.Model) -> list[str | None]:
    return [why_unreadable(imported, e) for e in channels(model).edges]


def test_transposed_and_grouped_convolutions_are_left_out() -> None:
    text = """g (float[N, 4, 5, 5] x) => (float[N, 2, 6, 6] z) {
        [first] a = Conv <kernel_shape = [1, 1]> (x, w)
        [grouped] b = Conv <kernel_shape = [1, 1], group = 2> (a, g)
        [up] z = ConvTranspose <kernel_shape = [2, 2]> (b, t)
    }"""
    model = parse(text, w=normal(1, 4, 4, 1, 1), g=normal(2, 4, 2, 1, 1), t=normal(3, 4, 2, 2, 2))
    found = reasons(import_model(model), model)
    assert found == [
        None,
        "Conv 'grouped' is already grouped (group=2)",
        "transposed convolutions are left as they are",
    ]


@pytest.mark.parametrize("make", [mlp, cnn])
def test_weights_as_matrices_and_back(make: object) -> None:
    model = mlp() if make is mlp else cnn()
    imported = import_model(model)
    for edge in channels(model).edges:
        w = array(model, edge.weight).astype(np.float64)
        expected = w if edge.out_axis == 0 else w.T
        matrix = weight_matrix(imported, edge)
        np.testing.assert_array_equal(matrix, expected.reshape(len(expected), -1))
        set_weight_matrix(imported, edge, matrix + np.arange(matrix.size).reshape(matrix.shape))
        np.testing.assert_allclose(
            weight_matrix(imported, edge) - matrix,
            np.arange(matrix.size).reshape(matrix.shape),
            atol=1e-4,
        )
