"""Weights between clusters are gone: grouped convolutions and batched products."""

import numpy as np
import onnx_ir as ir
import pytest
from layout_helpers import attribute, channels_of, equal, layout_of, masked, shapes
from pass_helpers import apply, initializers, nodes, normal, parse, properties, text

from crespr_onnx.errors import VerificationError
from crespr_onnx.graph.accounting import stored_weights
from crespr_onnx.passes.split_clusters import SplitClusters

TWO = [0, 0, 1, 1]


def cut(before, **labels):
    """The masked model before and after the split of its edges."""
    graph = channels_of(before)
    layout = layout_of(graph, **labels)
    before = masked(before, graph, layout)
    after = apply(SplitClusters(graph, layout), before)
    stored = sum({e.weight: layout.stored_weights(graph, e) for e in graph.edges}.values())
    assert stored_weights(ir.from_proto(after)) == stored
    return before, after


def chain(op: str, middle: np.ndarray, given: str = "3, 5, 5", setting: str = ""):
    outer = (1, 1) if op.startswith("Conv") else ()
    first = (4, 3, *outer) if outer else (3, 4)
    last = (2, 6, *outer) if outer else (6, 2)
    kind = "Conv" if outer else "MatMul"
    rank = given.count(",") + 1
    return parse(
        f"""g (float[N, {given}] x) => (float[N, {", ".join("ABC"[:rank])}] y) {{
            a = {kind}(x, w) b = {op}{setting}(a, v{"" if op == "MatMul" else ", k"})
            y = {kind}(b, u)
        }}""",
        w=normal(0, *first), v=middle, u=normal(1, *last),
        **({} if op == "MatMul" else {"k": normal(2, 6)}),
    )  # fmt: skip


def test_conv_becomes_a_grouped_one():
    before, after = cut(chain("Conv", normal(3, 6, 4, 3, 3)), a=TWO, b=[0, 0, 0, 1, 1, 1])
    assert nodes(after) == nodes(before)
    assert attribute(after, "conv_1", "group") == 2
    old, new = initializers(before), initializers(after)
    assert equal(new["v"], np.concatenate([old["v"][:3, :2], old["v"][3:, 2:]]))
    assert equal(new["k"], old["k"])
    assert properties(after, ["conv_0", "conv_1"]) == [
        {},
        {"crespr.clusters": "2", "crespr.layer": "conv_1"},
    ]


def test_conv_transpose_keeps_its_inputs_first():
    _, after = cut(chain("ConvTranspose", normal(3, 4, 6, 3, 3)), a=TWO, b=[0, 0, 0, 1, 1, 1])
    assert attribute(after, "convtranspose_1", "group") == 2
    assert shapes(after)["v"] == (4, 3, 3, 3)


@pytest.mark.parametrize(
    ("setting", "transposed"),
    [("", False), ("<transB = 1>", True), ("<alpha = 0.5, beta = 2.0>", False)],
)
def test_gemm_becomes_a_batched_product(setting: str, transposed: bool):
    weight = normal(3, 4, 6)
    before, after = cut(
        chain("Gemm", weight.T if transposed else weight, "3", setting),
        a=TWO,
        b=[0, 0, 0, 1, 1, 1],
    )
    assert nodes(after) == text("""
        a = MatMul(x, w)
        gemm_1/reshape_in/out = Reshape(a, gemm_1/blocks_in)
        gemm_1/transpose_in/out = Transpose(gemm_1/reshape_in/out)
        gemm_1/matmul/out = MatMul(gemm_1/transpose_in/out, v/clusters)
        gemm_1/add/out = Add(gemm_1/matmul/out, k/clusters)
        gemm_1/transpose_out/out = Transpose(gemm_1/add/out)
        b = Reshape(gemm_1/transpose_out/out, gemm_1/blocks_out)
        y = MatMul(b, u)
    """)
    old, new = initializers(before), initializers(after)
    whole = old["v"].T if transposed else old["v"]
    alpha, beta = (0.5, 2.0) if "alpha" in setting else (1.0, 1.0)
    assert equal(new["v/clusters"], np.stack([whole[:2, :3], whole[2:, 3:]]) * np.float32(alpha))
    assert equal(new["k/clusters"], old["k"].reshape(2, 1, 3) * np.float32(beta))
    assert new["gemm_1/blocks_in"].tolist() == [-1, 2, 2]
    assert new["gemm_1/blocks_out"].tolist() == [-1, 6]
    assert "v" not in new
    assert properties(after, ["gemm_1/matmul", "gemm_1/add"]) == [
        {"crespr.clusters": "2", "crespr.layer": "gemm_1"},
        {"crespr.layer": "gemm_1"},
    ]


def test_matmul_of_tokens_keeps_the_axes_in_front():
    _, after = cut(chain("MatMul", normal(3, 4, 6), "5, 3"), a=TWO, b=[0, 0, 0, 1, 1, 1])
    assert nodes(after)[1:6] == text("""
        matmul_1/reshape_in/out = Reshape(a, matmul_1/blocks_in)
        matmul_1/transpose_in/out = Transpose(matmul_1/reshape_in/out)
        matmul_1/matmul/out = MatMul(matmul_1/transpose_in/out, v/clusters)
        matmul_1/transpose_out/out = Transpose(matmul_1/matmul/out)
        b = Reshape(matmul_1/transpose_out/out, matmul_1/blocks_out)
    """)
    new = initializers(after)
    assert new["matmul_1/blocks_in"].tolist() == [0, 0, 2, 2]
    assert new["matmul_1/blocks_out"].tolist() == [0, 0, 6]
    assert attribute(after, "matmul_1/transpose_in", "perm") == [0, 2, 1, 3]
    assert new["v/clusters"].shape == (2, 2, 3)


@pytest.mark.parametrize("shape", [(1,), (), (1, 6), (1, 1)])
def test_shapes_of_the_bias(shape: tuple[int, ...]):
    before = chain("Gemm", normal(3, 4, 6), "3")
    (bias,) = [t for t in before.graph.initializer if t.name == "k"]
    array = np.full(shape, 0.5, np.float32)
    bias.ClearField("dims")
    bias.dims.extend(shape)
    bias.raw_data = array.tobytes()
    _, after = cut(before, a=TWO, b=[0, 0, 0, 1, 1, 1])
    assert initializers(after)["k/clusters"].shape == (2, 1, 3)


def test_a_shared_weight_is_split_once():
    before = parse(
        """g (float[N, 3, 5, 5] x) => (float[N, 2, 5, 5] y) {
            a = Conv(x, w) b = Conv(a, v) c = Conv(b, v) y = Conv(c, u)
        }""",
        w=normal(0, 4, 3, 1, 1), v=normal(1, 4, 4, 1, 1), u=normal(2, 2, 4, 1, 1),
    )  # fmt: skip
    _, after = cut(before, a=TWO)
    assert shapes(after)["v"] == (4, 2, 1, 1)
    assert [attribute(after, f"conv_{i}", "group") for i in (1, 2)] == [2, 2]


@pytest.mark.parametrize("second", ["Gemm(b, v)", "Gemm<alpha = 0.5>(b, v)"])
def test_a_shared_matrix_is_stored_once(second: str):
    before = parse(
        f"""g (float[N, 3] x) => (float[N, 2] y) {{
            a = Gemm(x, w) b = Gemm(a, v) c = {second} y = Gemm(c, u)
        }}""",
        w=normal(0, 3, 4), v=normal(1, 4, 4), u=normal(2, 4, 2),
    )  # fmt: skip
    _, after = cut(before, a=TWO)
    assert [n for n in shapes(after) if n.startswith("v")] == ["v/clusters"]


def test_edges_between_different_cluster_counts_stay_whole():
    before = chain("Conv", normal(3, 6, 4, 3, 3))
    graph = channels_of(before)
    layout = layout_of(graph, a=TWO, b=[0, 0, 1, 1, 2, 2])
    apply(SplitClusters(graph, layout), masked(before, graph, layout), modified=False)


@pytest.mark.parametrize(
    ("labels", "shown"),
    [([0, 1, 0, 1], "0, 1, 0, 1"), ([0, 0, 0, 1], "0, 0, 0, 1"), ([1, 1, 0, 0], "1, 1, 0, 0")],
)
def test_clusters_must_be_equal_blocks(labels: list[int], shown: str):
    before = chain("Conv", normal(3, 6, 4, 3, 3))
    graph = channels_of(before)
    layout = layout_of(graph, a=labels, b=[0, 0, 0, 1, 1, 1])
    message = (
        r"^clusters of 'conv_1' are not 2 equal blocks of neighbouring channels: "
        rf"labels \[{shown}\]$"
    )
    with pytest.raises(VerificationError, match=message):
        SplitClusters(graph, layout)(ir.from_proto(before))
