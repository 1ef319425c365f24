"""The analysis as a whole: what freezes, what is counted, and initializers with several readers."""

import sys

import numpy as np
import onnx_ir as ir
import pytest
from rule_helpers import A, analyse, analyse_graph, prepared

from crespr_onnx.graph.accounting import stored_weights
from crespr_onnx.graph.channels import Obstacle, find_channels


def test_an_operator_without_a_rule_freezes_what_it_reads():
    found = analyse("b = Hardmax(a) c = Relu(b)")
    assert found.obstacles == (Obstacle("hardmax_1", "Hardmax", "no rule for this operator"),)
    assert found.reasons("a") == {"read by Hardmax 'hardmax_1': no rule for this operator"}
    assert "c" not in found.graph.values


def test_an_operator_of_another_domain_is_not_the_standard_one():
    model = prepared(
        "g (float[N, 3] x) => (float[N, 4] y) { a = Gemm(x, w) y = Relu(a) }", w=(3, 4)
    )
    model.graph[1].domain = "example"
    _, obstacles = find_channels(model)
    assert obstacles == (Obstacle("relu_1", "Relu", "no rule for this operator"),)


def test_graph_outputs_keep_their_channels():
    found = analyse("b = Relu(a)", outputs="float[N, 4, 6, 6] b")
    assert found.reasons("a") == found.reasons("b") == {"'b' is a graph output"}


def test_the_first_reason_stands():
    found = analyse("b = Hardmax(a)", outputs="float[N, 4, 6, 6] b, float[N, 4, 6, 6] a")
    assert found.reasons("a") == {"read by Hardmax 'hardmax_1': no rule for this operator"}


def test_weights_that_are_no_edges_count_as_stored():
    found = analyse("b = Gemm<transA = 1>(a, w)", start="dense", w=(9, 6))
    assert (found.graph.opaque_weights, found.graph.weights) == (54, 54 + 24)


@pytest.mark.parametrize(
    ("body", "shapes"),
    [
        ("b = Conv(a, w) c = ConvTranspose(b, v)", {"w": (6, 4, 3, 3), "v": (6, 2, 3, 3)}),
        (
            "b = Conv<group = 2>(a, w) c = Conv<group = 6>(b, v)",
            {"w": (6, 2, 1, 1), "v": (6, 1, 3, 3)},
        ),
        ("b = Conv(a, w) c = Conv(b, w)", {"w": (4, 4, 1, 1)}),
    ],
)  # fmt: skip
def test_weights_are_those_that_accounting_finds(body: str, shapes: dict[str, tuple[int, ...]]):
    model = prepared(
        f"g (float[N, 3, 6, 6] x, float[N] z) => (float[N] y) {{"
        f"a = Conv(x, wa) {body} y = Relu(z) }}",
        wa=(4, 3, 1, 1),
        **shapes,
    )
    graph, _ = find_channels(model)
    assert graph.weights == stored_weights(model)


# ---- initializers with several readers


def test_a_shared_weight_ties_the_channels_of_both_its_readers():
    found = analyse("b = Conv(a, w) c = Conv(b, w)", w=(4, 4, 1, 1))
    assert found.axis("b") == found.axis("c") == (1, A)
    assert len(found.graph.edges) == 3
    assert found.graph.weights == 12 + 16


def test_a_shared_bias_ties_the_outputs():
    found = analyse("b = Conv(a, w, k) c = Conv(a, v, k)", w=(5, 4, 1, 1), v=(5, 4, 3, 3), k=(5,))
    assert found.axis("b")[1] == found.axis("c")[1]


@pytest.mark.parametrize(
    ("body", "arrays", "reader"),
    [
        ("b = Conv(a, w, k) c = Mul(k, k)", {"k": (5,)}, "Mul 'mul_2'"),
        ("b = Conv(a, w, k) c = Hardmax(k)", {"k": (5,)}, "Hardmax 'hardmax_2'"),
        ("c = Flatten(k) b = Conv(a, w, k)", {"k": (5,)}, "Flatten 'flatten_1'"),
    ],
)
def test_a_reader_without_channels_keeps_the_initializer_as_it_is(
    body: str, arrays: dict[str, tuple[int, ...]], reader: str
):
    found = analyse(body, w=(5, 4, 1, 1), **arrays)
    assert found.reasons("b") == {f"{reader} reads 'k' in a way of its own"}
    assert found.reasons("a") == {None}


def test_readers_that_bind_different_axes():
    found = analyse(
        "b = Add(a, k) t = Transpose<perm = [0, 2, 3, 1]>(a) c = Add(t, k)", k=(4, 1, 4)
    )
    assert found.reasons("a") == {"Add 'add_1' reads 'k' in a way of its own"}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("b = Gemm(a, w) c = MatMul(b, w)", "MatMul 'matmul_2' reads 'w' in a way of its own"),
        (
            "b = Gemm(a, w) c = Gemm<transB = 1>(b, w)",
            "Gemm 'gemm_2' reads 'w' in a way of its own",
        ),
    ],
)
def test_edges_that_read_one_weight_in_two_forms_stay(body: str, reason: str):
    found = analyse(body, start="dense", w=(4, 4))
    assert found.reasons("a") == found.reasons("b") == {reason}


@pytest.mark.parametrize(
    "heads", [{"inputs": "float[6, 4, 1, 1] w"}, {"outputs": "float[6, 4, 1, 1] w"}]
)
def test_a_weight_that_the_caller_gives_or_sees_is_none(heads: dict[str, str]):
    found = analyse("b = Conv(a, w)", w=(6, 4, 1, 1), **heads)
    assert found.found() == [("Conv", "its weight is not a constant")]


@pytest.mark.parametrize("heads", [{"inputs": "float[6] k"}, {"outputs": "float[6] k"}])
def test_a_bias_that_the_caller_gives_or_sees_is_not_bound(heads: dict[str, str]):
    found = analyse("b = Conv(a, w, k)", w=(6, 4, 1, 1), k=(6,), **heads)
    assert found.constant("k") == {}
    assert found.reasons("b") == {"the bias of Conv 'conv_1' is computed"}


def test_every_channel_is_in_one_group():
    found = analyse("b = Conv(a, w) c, d = Split<axis = 1>(b)", w=(6, 4, 1, 1))
    members = np.concatenate([g.channels for g in found.graph.groups])
    assert sorted(members.tolist()) == list(range(found.graph.n_channels))
    assert [g.name for g in found.graph.groups] == ["a", "b", "b#2", "wa"]


def test_a_model_without_nodes_that_weigh_anything():
    found = analyse_graph("g (float[N, 3] x) => (float[N, 3] y) { y = Relu(x) }")
    assert (found.graph.groups, found.graph.edges, found.obstacles) == ((), (), ())
    assert found.graph.n_channels == 0


# ---- time


def calls_for(layers: int) -> int:
    """Python calls that the analysis of a chain of residual layers makes."""
    body = "".join(f"b{i} = Conv(a{i}, w{i}) c{i} = Relu(b{i}) a{i + 1} = Add(c{i}, a{i}) "
                   for i in range(layers))  # fmt: skip
    text = f"g (float[N, 2, 1, 1] x) => (float[N, 2, 1, 1] a{layers}) {{ a0 = Conv(x, w) {body} }}"
    model = prepared(text, w=(2, 2, 1, 1), **{f"w{i}": (2, 2, 1, 1) for i in range(layers)})
    count = 0

    def tick(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(tick)
    try:
        graph, obstacles = find_channels(model)
    finally:
        sys.setprofile(None)
    assert (len(graph.edges), obstacles) == (layers + 1, ())
    assert len([g for g in graph.groups if len(g.channels) == 2]) == 2  # x and all the rest
    return count


def test_twice_as_many_layers_take_about_twice_as_many_steps():
    assert calls_for(400) / calls_for(200) < 2.3


def test_the_model_is_left_as_it_is():
    model = prepared("g (float[N, 3] x) => (float[N, 4] y) { y = Gemm(x, w) }", w=(3, 4))
    before = ir.to_proto(model)
    find_channels(model)
    assert ir.to_proto(model) == before
