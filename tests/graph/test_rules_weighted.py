"""Weighted edges: what they read and write, and which uses keep them dense."""

import numpy as np
import pytest
from rule_helpers import A, analyse, analyse_graph

B = [4, 5, 6, 7, 8, 9]


def test_conv_is_an_edge_between_its_input_and_new_channels():
    found = analyse("b = Conv<strides = [2, 2]>(a, w, k)", w=(6, 4, 3, 3), k=(6,))
    assert found.axis("b") == (1, B)
    assert (found.constant("w"), found.constant("k")) == ({0: B, 1: A}, {0: B})
    edge = found.edge("conv_1")
    assert (edge.op, edge.weight, edge.in_axis, edge.out_axis) == ("Conv", "w", 1, 0)
    assert (edge.in_channels.tolist(), edge.out_channels.tolist()) == (A, B)
    assert (edge.kernel, edge.positions, edge.weights, edge.frozen) == (9, 4, 216, None)


def test_conv_transpose_has_its_inputs_first():
    found = analyse("b = ConvTranspose(a, w, k)", w=(4, 6, 2, 2), k=(6,))
    assert (found.constant("w"), found.constant("k")) == ({0: A, 1: B}, {0: B})
    edge = found.edge("convtranspose_1")
    assert (edge.in_axis, edge.out_axis, edge.kernel, edge.positions) == (0, 1, 4, 49)


@pytest.mark.parametrize("bias", [True, False])
def test_depthwise_conv_ties_its_channels(bias: bool):
    found = analyse(
        f"b = Conv<group = 4>(a, w{', k' if bias else ''}) {'' if bias else 'c = Relu(k)'}",
        w=(4, 1, 3, 3),
        k=(4,),
    )
    assert found.axis("b") == (1, A)
    assert found.constant("w") == {0: A}
    assert found.constant("k") == ({0: A} if bias else {})
    assert [e.name for e in found.graph.edges] == ["conv_0"]


@pytest.mark.parametrize(("op", "shape"), [("Conv", (6, 2, 1, 1)), ("ConvTranspose", (4, 3, 1, 1))])
def test_a_convolution_that_is_grouped_already_stays(op: str, shape: tuple[int, ...]):
    found = analyse(f"b = {op}<group = 2>(a, w, k)", w=shape, k=(6,))
    reason = f"{op} '{op.lower()}_1' is already grouped (group=2)"
    assert found.reasons("a") == found.reasons("b") == {reason}
    assert found.constant("w") == found.constant("k") == {}
    edge = found.edge(f"{op.lower()}_1")
    assert (edge.frozen, edge.weights, edge.kernel) == (reason, 12, 1)
    assert found.axis("b") == (1, B)


def test_several_filters_for_each_channel_are_groups_not_depthwise():
    found = analyse("b = Conv<group = 4>(a, w)", w=(8, 1, 1, 1))
    assert found.reasons("b") == {"Conv 'conv_1' is already grouped (group=4)"}


@pytest.mark.parametrize(
    ("setting", "shape", "in_axis"), [("", (4, 6), 0), ("<transB = 1>", (6, 4), 1)]
)
def test_gemm(setting: str, shape: tuple[int, int], in_axis: int):
    found = analyse(f"b = Gemm{setting}(a, w, k)", start="dense", w=shape, k=(6,))
    edge = found.edge("gemm_1")
    assert (edge.in_axis, edge.out_axis, edge.kernel, edge.positions) == (
        in_axis,
        1 - in_axis,
        1,
        1,
    )
    assert found.constant("w") == {in_axis: A, 1 - in_axis: B}
    assert found.constant("k") == {0: B}


@pytest.mark.parametrize(("shape", "bound"), [((1, 6), {1: B}), ((1,), {}), ((), {}), ((1, 1), {})])
def test_shapes_of_the_bias_of_gemm(shape: tuple[int, ...], bound: dict[int, list[int]]):
    found = analyse("b = Gemm(a, w, k)", start="dense", w=(4, 6), k=shape)
    assert found.constant("k") == bound
    assert found.reasons("b") == {None}


def test_a_bias_that_differs_between_samples_freezes_the_outputs():
    found = analyse_graph(
        "g (float[2, 3] x) => (float[2, 5] y) { a = Gemm(x, w, k) y = Gemm(a, v) }",
        w=(3, 4), v=(4, 5), k=(2, 4),
    )  # fmt: skip
    assert found.reasons("a") == {"the bias of Gemm 'gemm_0' differs between samples"}


@pytest.mark.parametrize(("start", "axis", "positions"), [("dense", 1, 1), ("tokens", 2, 5)])
def test_matmul_works_on_the_last_axis(start: str, axis: int, positions: int):
    found = analyse("b = MatMul(a, w)", start=start, w=(4, 6))
    assert found.axis("b") == (axis, B)
    edge = found.edge("matmul_1")
    assert (edge.in_axis, edge.out_axis, edge.positions) == (0, 1, positions)


@pytest.mark.parametrize(
    ("body", "more", "reason"),
    [
        ("b = Gemm<transA = 1>(a, w)", {"w": (9, 6)}, "its input is transposed (transA)"),
        (
            "b = Gemm(a, w)",
            {"w": (4, 6), "inputs": "float[4, 6] w"},
            "its weight is not a constant",
        ),
        (
            "b = MatMul(a, w)",
            {"w": (4, 6), "inputs": "float[4, 6] w"},
            "it has no constant matrix on the right",
        ),
        ("b = MatMul(w, a)", {"w": (6, 9)}, "it has no constant matrix on the right"),
        ("b = MatMul(a, w)", {"w": (4,)}, "its weight has 1 dimensions"),
        ("b = MatMul(a, w)", {"w": (2, 4, 6)}, "its weight has 3 dimensions"),
        ("b = Conv(a, w)", {"w": (4, 6)}, "its weight has 2 dimensions"),
    ],
)
def test_obstacles_on_a_matrix(body: str, more: dict[str, object], reason: str):
    found = analyse(body, start="dense", **more)
    op = body.split("b = ")[1].split("(")[0].split("<")[0]
    assert found.found() == [(op, reason)]
    assert found.reasons("a") == {f"read by {op} '{op.lower()}_1': {reason}"}


def test_matmul_of_a_vector():
    text = "g (float[3] x) => (float[5] y) { t = Relu(x) y = MatMul(t, w) }"
    found = analyse_graph(text, w=(3, 5))
    assert found.graph.edges == ()
    assert found.graph.opaque_weights == 15


def test_depthwise_conv_of_channels_that_are_not_known():
    found = analyse("b = Conv<group = 3>(x, w)", w=(3, 1, 1, 1))
    assert "b" not in found.graph.values
    found = analyse(
        "t = Transpose<perm = [0, 2, 1, 3]>(a) b = Conv<group = 6>(t, w)", w=(6, 1, 1, 1)
    )
    assert found.found() == [("Conv", "the channels of its input are not known to be on axis 1")]


@pytest.mark.parametrize("heads", [{"inputs": "float[4] k"}, {"inputs": "float[4] j"}])
def test_depthwise_conv_with_a_bias_that_is_computed_or_given(heads: dict[str, str]):
    body = "b = Conv<group = 4>(a, w, k)"
    body = body if heads["inputs"].endswith("k") else f"k = Relu(j) {body}"
    found = analyse(body, w=(4, 1, 1, 1), **heads)
    assert found.found() == [("Conv", "its bias is not a constant")]


@pytest.mark.parametrize(
    ("op", "shape", "start"),
    [("Conv", (6, 4, 1, 1), "conv"), ("ConvTranspose", (4, 6, 1, 1), "conv"),
     ("Gemm", (4, 6), "dense")],
)  # fmt: skip
def test_a_bias_that_is_computed_freezes_the_outputs(op: str, shape: tuple[int, ...], start: str):
    found = analyse(f"k = Relu(j) b = {op}(a, w, k)", start=start, w=shape, inputs="float[6] j")
    assert found.reasons("b") == {f"the bias of {op} '{op.lower()}_2' is computed"}
    assert found.reasons("a") == {None}


def test_channels_in_a_computed_bias_are_frozen_too():
    found = analyse_graph(
        """g (float[1, 3] x) => (float[1, 5] y) {
            a = Gemm(x, w) b = Gemm(x, w2) c = Gemm(b, v, a) y = Gemm(c, u)
        }""",
        w=(3, 4), w2=(3, 2), v=(2, 4), u=(4, 5),
    )  # fmt: skip
    reason = {"the bias of Gemm 'gemm_2' is computed"}
    assert found.reasons("a") == found.reasons("c") == reason
    assert found.reasons("b") == {None}


def test_inputs_whose_channels_are_not_known_stay():
    found = analyse("r = Relu(x) b = Conv(r, w)", w=(6, 3, 1, 1))
    groups = found.graph.groups
    sides = [groups[found.graph.group_of[e.in_channels[0]]].frozen for e in found.graph.edges]
    assert sides == ["'x' is a graph input", "'r' has no known channels"]


def test_an_edge_across_another_axis_freezes_both():
    found = analyse("t = Transpose<perm = [0, 2, 1]>(a) b = MatMul(t, w)", start="tokens", w=(5, 6))
    reason = "MatMul 'matmul_2' mixes another axis of it"
    assert found.reasons("a") == {reason}
    edge = found.edge("matmul_2")
    assert {found.graph.groups[i].frozen for i in found.graph.groups_on(edge.in_channels)} == {
        reason
    }
    assert found.reasons("b") == {None}


def test_sizes_that_are_not_fixed_count_as_one():
    found = analyse("b = Conv(a, w)", start="free", w=np.zeros((6, 4, 1, 1), np.float32))
    assert found.edge("conv_1").positions == 1
