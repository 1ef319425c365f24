"""Clusters become blocks of neighbouring channels; what the model computes stays the same."""

import numpy as np
import pytest
from layout_helpers import channels_of, equal, layout_of, masked, reordered
from pass_helpers import initializers, nodes, normal, ops, parse, text

from crespr_onnx.layout import Layout, dense_layout
from crespr_onnx.passes.permute_channels import PermuteChannels

LABELS = [1, 0, 1, 0]
ORDER = [1, 3, 0, 2]


def permuted(before, *, modified: bool = True, **labels):
    graph = channels_of(before)
    return reordered(PermuteChannels(graph, layout_of(graph, **labels)), before, modified=modified)


def test_conv_bias_batch_normalization_and_depthwise():
    before = parse(
        """g (float[N, 3, 5, 5] x) => (float[N, 2, 5, 5] y) {
            a = Conv(x, w, k) b = BatchNormalization(a, s, s, m, v) r = Relu(b)
            d = Conv<group = 4, pads = [1, 1, 1, 1]>(r, dw, k) y = Conv(d, u)
        }""",
        w=normal(0, 4, 3, 1, 1), k=normal(1, 4), s=normal(2, 4), m=normal(3, 4),
        v=normal(4, 4) ** 2, dw=normal(5, 4, 1, 3, 3), u=normal(6, 2, 4, 1, 1),
    )  # fmt: skip
    after = permuted(before, a=LABELS)
    old, new = initializers(before), initializers(after)
    assert nodes(after) == nodes(before)
    assert all(equal(new[name], old[name][ORDER]) for name in ("w", "k", "s", "m", "v", "dw"))
    assert equal(new["u"], old["u"][:, ORDER])


def test_gemm_and_matmul():
    before = parse(
        """g (float[N, 3] x) => (float[N, 2] y) {
            a = Gemm<transB = 1>(x, w, k) b = MatMul(a, v) y = Gemm(b, u)
        }""",
        w=normal(0, 4, 3), k=normal(1, 1, 4), v=normal(2, 4, 6), u=normal(3, 6, 2),
    )  # fmt: skip
    after = permuted(before, a=LABELS, b=[1, 1, 0, 0, 1, 0])
    old, new = initializers(before), initializers(after)
    assert equal(new["w"], old["w"][ORDER])
    assert equal(new["k"], old["k"][:, ORDER])
    assert equal(new["v"], old["v"][ORDER][:, [2, 3, 5, 0, 1, 4]])
    assert equal(new["u"], old["u"][[2, 3, 5, 0, 1, 4]])


def test_residual_add():
    before = parse(
        """g (float[N, 3, 5, 5] x) => (float[N, 2, 5, 5] y) {
            a = Conv(x, w) b = Conv(a, v) c = Add(a, b) y = Conv(c, u)
        }""",
        w=normal(0, 4, 3, 1, 1), v=normal(1, 4, 4, 1, 1), u=normal(2, 2, 4, 1, 1),
    )  # fmt: skip
    after = permuted(before, a=LABELS)
    assert nodes(after) == nodes(before)
    assert equal(initializers(after)["v"], initializers(before)["v"][ORDER][:, ORDER])


def test_flattened_channels_stay_together():
    before = parse(
        """g (float[N, 3, 2, 2] x) => (float[N, 2] y) {
            a = Conv(x, w) f = Flatten(a) y = Gemm(f, u)
        }""",
        w=normal(0, 4, 3, 1, 1), u=normal(1, 16, 2),
    )  # fmt: skip
    after = permuted(before, a=LABELS)
    rows = np.arange(16).reshape(4, 4)[ORDER].ravel()
    assert nodes(after) == nodes(before)
    assert equal(initializers(after)["u"], initializers(before)["u"][rows])


def test_channels_that_come_last_are_gathered_behind_a_flatten():
    before = parse(
        """g (float[N, 3, 6] x) => (float[N, 2] y) {
            a = MatMul(x, w) f = Flatten(a) y = Gemm(f, u)
        }""",
        w=normal(0, 6, 4), u=normal(1, 12, 2),
    )  # fmt: skip
    after = permuted(before, a=LABELS)
    assert nodes(after) == text("""
        a = MatMul(x, w)
        f/natural = Flatten(a)
        f = Gather(f/natural, flatten_1/order/indices)
        y = Gemm(f, u)
    """)
    # By cluster, then by channel, then by position.
    assert initializers(after)["u"].shape == (12, 2)
    rows = [4 * t + c for c in ORDER for t in range(3)]
    assert equal(initializers(after)["u"], initializers(before)["u"][rows])


CONCAT = """
    g (float[N, 3] x) => (float[N, 2] y) {
        a = Gemm(x, w) b = Gemm(x, v) c = Concat<axis = 1>(a, b) y = Gemm(c, u)
    }"""
CONCAT_ARRAYS = {"w": normal(0, 3, 4), "v": normal(1, 3, 4), "u": normal(2, 8, 2)}


def test_concat_of_clusters_shuffles_them_together():
    after = permuted(parse(CONCAT, **CONCAT_ARRAYS), a=LABELS, b=[0, 0, 1, 1])
    assert nodes(after)[2:] == text("""
        c/natural = Concat(a, b)
        c = Gather(c/natural, concat_2/order/indices)
        y = Gemm(c, u)
    """)
    indices = initializers(after)["concat_2/order/indices"]
    assert indices.tolist() == [0, 1, 4, 5, 2, 3, 6, 7]


def test_concat_of_different_cluster_counts_has_the_order_of_the_model():
    before = parse(CONCAT, **CONCAT_ARRAYS)
    after = permuted(before, a=LABELS)
    assert equal(initializers(after)["u"], initializers(before)["u"])
    indices = initializers(after)["concat_2/order/indices"]
    assert indices.tolist() == [2, 0, 3, 1, 4, 5, 6, 7]


OPTION_A = """
    g (float[N, 3, 6, 6] x) => (float[N, 2, 3, 3] y) {
        a = Conv(x, w)
        b = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(a, v)
        s = Slice(a, zero, end, spatial, two)
        p = Pad(s, pads)
        c = Add(b, p)
        y = Conv(c, u)
    }"""
OPTION_A_ARRAYS = {
    "w": normal(0, 4, 3, 1, 1), "v": normal(1, 8, 4, 3, 3), "u": normal(2, 2, 8, 1, 1),
    "zero": np.array([0, 0]), "end": np.array([6, 6]), "spatial": np.array([2, 3]),
    "two": np.array([2, 2]), "pads": np.array([0, 2, 0, 0, 0, 2, 0, 0]),
}  # fmt: skip


def test_option_a_shortcuts_pad_each_cluster_by_itself():
    before = parse(OPTION_A, **OPTION_A_ARRAYS)
    after = permuted(before, a=LABELS, b=[0, 1, 1, 0])
    assert ops(after) == ["Conv", "Conv", "Slice", "Split", "Pad", "Pad", "Concat", "Add", "Conv"]
    arrays = initializers(after)
    pads = [arrays[n.input[1]].tolist() for n in after.graph.node if n.op_type == "Pad"]
    # Channels of earlier layers come first in each cluster.
    assert pads == [[0, 0, 0, 0, 0, 2, 0, 0]] * 2
    assert [n.output[0] for n in after.graph.node if n.op_type == "Concat"] == ["p"]


def test_split_and_gather_are_routed_anew():
    before = parse(
        """g (float[N, 3] x) => (float[N, 2] y) {
            a = Gemm(x, w) p, q = Split<axis = 1>(a, s) g = Gather<axis = 1>(a, k)
            c = Concat<axis = 1>(q, p, g) y = Gemm(c, u)
        }""",
        w=normal(0, 3, 6), u=normal(1, 8, 2), s=np.array([2, 4]), k=np.array([5, 0]),
    )  # fmt: skip
    graph = channels_of(before)
    free = [i for i, g in enumerate(graph.groups) if g.frozen is None]
    layout = Layout(np.arange(graph.n_channels) % 2, np.ones(len(graph.groups), np.int64))
    layout.clusters[free] = 2
    after = reordered(PermuteChannels(graph, layout), before)
    # a has the channels 0 2 4 1 3 5 now; p shows 0 1 of them, q 2 4 3 5, and g 0 5.
    each_cluster = ["Split", "Slice", "Slice", "Concat"]
    assert ops(after) == ["Gemm", *each_cluster * 3, "Concat", "Gather", "Gemm"]
    assert nodes(after)[-3:] == text("""
        c/natural = Concat(q, p, g)
        c = Gather(c/natural, concat_3/order/indices)
        y = Gemm(c, u)
    """)
    # c has 0 0 2 4 1 3 5 5.
    indices = initializers(after)["concat_3/order/indices"]
    assert indices.tolist() == [4, 6, 0, 1, 5, 2, 3, 7]


@pytest.mark.parametrize("labels", [[0, 0, 1, 1], None])
def test_nothing_to_do(labels: list[int] | None):
    before = parse(CONCAT, **CONCAT_ARRAYS)
    graph = channels_of(before)
    layout = dense_layout(graph) if labels is None else layout_of(graph, a=labels)
    after = reordered(PermuteChannels(graph, layout), before, modified=False)
    assert nodes(after) == nodes(before)


def test_a_second_run_by_the_new_channels_finds_nothing_to_do():
    before = parse(OPTION_A, **OPTION_A_ARRAYS)
    graph = channels_of(before)
    layout = layout_of(graph, a=LABELS, b=[0, 1, 1, 0])
    pass_ = PermuteChannels(graph, layout)
    after = reordered(pass_, before)
    told = pass_.graph_after()
    for name, axis in told.values.items():
        labels = layout.labels[axis.channels]
        if layout.axis_clusters(told, axis.channels) > 1:
            assert (np.diff(labels) >= 0).all(), name
    again = reordered(PermuteChannels(told, layout), after, modified=False)
    assert nodes(again) == nodes(after)


def test_masks_move_with_their_channels():
    before = parse(CONCAT, **CONCAT_ARRAYS)
    graph = channels_of(before)
    layout = layout_of(graph, a=LABELS, b=[0, 0, 1, 1])
    permuted(masked(before, graph, layout), a=LABELS, b=[0, 0, 1, 1])
