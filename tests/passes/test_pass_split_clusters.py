"""Weights between clusters are gone: grouped convolutions and batched products."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from layout_helpers import attribute, channels_of, equal, layout_of, masked, shapes
from pass_helpers import apply, initializers, nodes, normal, parse, properties, text

from crespr_onnx.errors import VerificationError
from crespr_onnx.graph.accounting import stored_weights
from crespr_onnx.layout import ChannelGraph, Layout
from crespr_onnx.passes.split_clusters import SplitClusters

TWO = [0, 0, 1, 1]
SIX = [0, 0, 0, 1, 1, 1]
Reads = Sequence[Sequence[int]]
"""Per cluster the input positions that it reads."""


def reading(graph: ChannelGraph, layout: Layout, reads: Mapping[str, Reads]) -> Layout:
    """The layout with selections by edge; what edges have else they keep."""
    inputs = {edge.name: len(edge.in_channels) for edge in graph.edges}
    given = {
        name: np.array([np.isin(np.arange(inputs[name]), column) for column in columns]).T
        for name, columns in reads.items()
    }
    return replace(layout, selections={**layout.selections, **given})


def cut(
    before: onnx.ModelProto, reads: Mapping[str, Reads] | None = None, **labels: Sequence[int]
) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The masked model before and after the split of its edges."""
    graph = channels_of(before)
    layout = reading(graph, layout_of(graph, **labels), reads or {})
    before = masked(before, graph, layout)
    after = apply(SplitClusters(graph, layout), before)
    stored = sum({e.weight: layout.stored_weights(graph, e) for e in graph.edges}.values())
    assert stored_weights(ir.from_proto(after)) == stored < stored_weights(ir.from_proto(before))
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
    before, after = cut(chain("Conv", normal(3, 6, 4, 3, 3)), a=TWO, b=SIX)
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
    _, after = cut(chain("ConvTranspose", normal(3, 4, 6, 3, 3)), a=TWO, b=SIX)
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
        b=SIX,
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
    _, after = cut(chain("MatMul", normal(3, 4, 6), "5, 3"), a=TWO, b=SIX)
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
    _, after = cut(before, a=TWO, b=SIX)
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


# ---- Selections: clusters that share inputs, or read those of others


def test_a_gemm_gathers_what_its_clusters_read():
    before, after = cut(
        chain("Gemm", normal(3, 4, 6), "3"), {"gemm_1": [[0, 2, 3], [1, 2, 3]]}, a=TWO, b=SIX
    )
    assert nodes(after) == text("""
        a = MatMul(x, w)
        gemm_1/Gather/out = Gather(a, gemm_1/selection)
        gemm_1/reshape_in/out = Reshape(gemm_1/Gather/out, gemm_1/blocks_in)
        gemm_1/transpose_in/out = Transpose(gemm_1/reshape_in/out)
        gemm_1/matmul/out = MatMul(gemm_1/transpose_in/out, v/clusters)
        gemm_1/add/out = Add(gemm_1/matmul/out, k/clusters)
        gemm_1/transpose_out/out = Transpose(gemm_1/add/out)
        b = Reshape(gemm_1/transpose_out/out, gemm_1/blocks_out)
        y = MatMul(b, u)
    """)
    old, new = initializers(before)["v"], initializers(after)
    assert new["gemm_1/selection"].tolist() == [0, 2, 3, 1, 2, 3]
    assert new["gemm_1/selection"].dtype == np.int32
    assert equal(new["v/clusters"], np.stack([old[[0, 2, 3], :3], old[1:, 3:]]))
    assert new["gemm_1/blocks_in"].tolist() == [-1, 2, 3]
    assert new["gemm_1/blocks_out"].tolist() == [-1, 6]
    assert attribute(after, "gemm_1/Gather", "axis") == 1
    assert properties(after, ["gemm_1/Gather", "gemm_1/matmul"]) == [
        {"crespr.selection": "gemm_1"},
        {"crespr.clusters": "2", "crespr.layer": "gemm_1"},
    ]


def test_a_product_of_tokens_gathers_its_last_axis():
    before, after = cut(
        chain("MatMul", normal(3, 4, 6), "5, 3"), {"matmul_1": [[0, 3], [1, 3]]}, a=TWO, b=SIX
    )
    assert nodes(after)[1:3] == text("""
        matmul_1/Gather/out = Gather(a, matmul_1/selection)
        matmul_1/reshape_in/out = Reshape(matmul_1/Gather/out, matmul_1/blocks_in)
    """)
    old, new = initializers(before)["v"], initializers(after)
    assert new["matmul_1/selection"].tolist() == [0, 3, 1, 3]
    assert attribute(after, "matmul_1/Gather", "axis") == 2
    assert equal(new["v/clusters"], np.stack([old[[0, 3], :3], old[[1, 3], 3:]]))


def test_a_conv_gathers_its_channels():
    before, after = cut(
        chain("Conv", normal(3, 6, 4, 3, 3)), {"conv_1": [[0, 1, 3], [0, 2, 3]]}, a=TWO, b=SIX
    )
    assert nodes(after) == text("""
        a = Conv(x, w)
        conv_1/Gather/out = Gather(a, conv_1/selection)
        b = Conv(conv_1/Gather/out, v, k)
        y = Conv(b, u)
    """)
    assert attribute(after, "conv_1/Gather", "axis") == 1
    assert attribute(after, "conv_1", "group") == 2
    old, new = initializers(before)["v"], initializers(after)
    assert new["conv_1/selection"].tolist() == [0, 1, 3, 0, 2, 3]
    assert equal(new["v"], np.concatenate([old[:3, [0, 1, 3]], old[3:, [0, 2, 3]]]))
    assert properties(after, ["conv_1/Gather", "conv_1"]) == [
        {"crespr.selection": "conv_1"},
        {"crespr.clusters": "2", "crespr.layer": "conv_1"},
    ]


def test_a_conv_transpose_gathers_its_channels():
    before, after = cut(
        chain("ConvTranspose", normal(3, 4, 6, 3, 3)),
        {"convtranspose_1": [[1, 3], [1, 2]]},
        a=TWO,
        b=SIX,
    )
    old, new = initializers(before)["v"], initializers(after)
    assert new["convtranspose_1/selection"].tolist() == [1, 3, 1, 2]
    assert attribute(after, "convtranspose_1", "group") == 2
    # Inputs first: those of one cluster after those of the other, each with its own outputs.
    assert equal(new["v"], np.concatenate([old[[1, 3], :3], old[[1, 2], 3:]]))


@pytest.mark.parametrize(
    ("op", "weight", "given"),
    [
        ("Gemm", (4, 6), "3"),
        ("MatMul", (4, 6), "5, 3"),
        ("Conv", (6, 4, 3, 3), "3, 5, 5"),
        ("ConvTranspose", (4, 6, 3, 3), "3, 5, 5"),
    ],
)
def test_one_cluster_that_does_not_read_everything_is_shrunk(
    op: str, weight: tuple[int, ...], given: str
):
    name = f"{op.lower()}_1"
    before, after = cut(
        chain(op, normal(3, *weight), given), {name: [[0, 3]]}, a=[0] * 4, b=[0] * 6
    )
    outer = "Conv" if op.startswith("Conv") else "MatMul"
    bias = "" if op == "MatMul" else ", k"
    assert nodes(after) == text(f"""
        a = {outer}(x, w)
        {name}/Gather/out = Gather(a, {name}/selection)
        b = {op}({name}/Gather/out, v{bias})
        y = {outer}(b, u)
    """)
    old, new = initializers(before)["v"], initializers(after)
    assert new[f"{name}/selection"].tolist() == [0, 3]
    assert equal(new["v"], old.take([0, 3], axis=1 if op == "Conv" else 0))
    assert properties(after, [f"{name}/Gather", name]) == [{"crespr.selection": name}, {}]


def test_the_input_of_the_model_can_be_selected_from():
    before = parse(
        "g (float[N, 6] x) => (float[N, 2] y) { a = Gemm(x, w) y = MatMul(a, u) }",
        w=normal(0, 6, 4), u=normal(1, 4, 2),
    )  # fmt: skip
    _, after = cut(before, {"gemm_0": [[0, 1, 5], [0, 3, 4]]}, a=TWO)
    assert nodes(after)[0] == "gemm_0/Gather/out = Gather(x, gemm_0/selection)"
    assert shapes(after)["w/clusters"] == (2, 3, 2)


@pytest.mark.parametrize("labels", [{"a": TWO, "b": SIX}, {"a": [0] * 4, "b": [0] * 6}])
def test_a_selection_that_reads_everything_leaves_the_node_alone(labels: dict[str, list[int]]):
    before = chain("Conv", normal(3, 6, 4, 3, 3))
    graph = channels_of(before)
    layout = layout_of(graph, **labels)
    layout = reading(graph, layout, {"conv_1": [range(4)] * (1 + max(labels["b"]))})
    apply(SplitClusters(graph, layout), masked(before, graph, layout), modified=False)


@pytest.mark.parametrize(
    ("reads", "counts"),
    [
        ([[0, 1, 2], [3]], "3, 1"),
        ([[0, 1], []], "2, 0"),
        ([[], []], "0, 0"),
    ],
)
def test_clusters_must_read_equally_much(reads: Reads, counts: str):
    before = chain("Conv", normal(3, 6, 4, 3, 3))
    graph = channels_of(before)
    layout = reading(graph, layout_of(graph, a=TWO, b=SIX), {"conv_1": reads})
    message = (
        r"^clusters of 'conv_1' must read equally many of its 4 inputs, and at least one, "
        rf"but read \[{counts}\]$"
    )
    with pytest.raises(VerificationError, match=message):
        SplitClusters(graph, layout)(ir.from_proto(before))


GOLDEN = """\
   ["matmul_0/Gather"] "matmul_0/Gather/out" = Gather <axis: int = 1> (x, "matmul_0/selection")
   ["matmul_0/reshape_in"] "matmul_0/reshape_in/out" = Reshape ("matmul_0/Gather/out", "matmul_0/blocks_in")
   ["matmul_0/transpose_in"] "matmul_0/transpose_in/out" = Transpose <perm: ints = [1, 0, 2]> ("matmul_0/reshape_in/out")
   ["matmul_0/matmul"] "matmul_0/matmul/out" = MatMul ("matmul_0/transpose_in/out", "w/clusters")
   ["matmul_0/transpose_out"] "matmul_0/transpose_out/out" = Transpose <perm: ints = [1, 0, 2]> ("matmul_0/matmul/out")
   ["matmul_0/reshape_out"] a = Reshape ("matmul_0/transpose_out/out", "matmul_0/blocks_out")
   [gemm_1] y = Gemm (a, u)
}"""  # noqa: E501


def test_the_text_of_a_split_in_which_clusters_share_an_input():
    before = parse(
        "g (float[N, 3] x) => (float[N, 2] y) { a = MatMul(x, w) y = Gemm(a, u) }",
        w=np.array([[1, 2, 0, 0], [3, 4, 5, 6], [0, 0, 7, 8]], np.float32), u=normal(1, 4, 2),
    )  # fmt: skip
    _, after = cut(before, {"matmul_0": [[0, 1], [1, 2]]}, a=TWO)
    for node in after.graph.node:
        node.ClearField("metadata_props")
    assert onnx.printer.to_text(after).split("\n{\n")[1] == GOLDEN
    assert initializers(after)["w/clusters"].tolist() == [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]


def test_clusters_of_another_count_than_the_inputs_can_read():
    _, after = cut(
        chain("Conv", normal(3, 6, 4, 3, 3)),
        {"conv_1": [[0, 1], [1, 2], [3, 0]]},
        a=TWO,
        b=[0, 0, 1, 1, 2, 2],
    )
    assert attribute(after, "conv_1", "group") == 3
    assert initializers(after)["conv_1/selection"].tolist() == [0, 1, 1, 2, 0, 3]


def test_edges_between_different_cluster_counts_stay_whole():
    before = chain("Conv", normal(3, 6, 4, 3, 3))
    graph = channels_of(before)
    layout = layout_of(graph, a=TWO, b=[0, 0, 1, 1, 2, 2])
    apply(SplitClusters(graph, layout), masked(before, graph, layout), modified=False)


@pytest.mark.parametrize(
    ("labels", "shown"),
    [
        ([0, 1, 0, 1, 0, 1], "0, 1, 0, 1, 0, 1"),
        ([0, 0, 0, 0, 1, 1], "0, 0, 0, 0, 1, 1"),
        ([1, 1, 1, 0, 0, 0], "1, 1, 1, 0, 0, 0"),
        ([0, 0, 0, 1, 1, -1], "0, 0, 0, 1, 1, -1"),
    ],
)
def test_clusters_must_be_equal_blocks(labels: list[int], shown: str):
    before = chain("Conv", normal(3, 6, 4, 3, 3))
    graph = channels_of(before)
    layout = layout_of(graph, a=TWO, b=labels)
    message = (
        r"^clusters of 'conv_1' are not 2 equal blocks of neighbouring channels: "
        rf"labels \[{shown}\]$"
    )
    with pytest.raises(VerificationError, match=message):
        SplitClusters(graph, layout)(ir.from_proto(before))
