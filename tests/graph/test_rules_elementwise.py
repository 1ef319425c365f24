"""Operators that keep every channel to itself."""

import numpy as np
import onnx
import pytest
from rule_helpers import A, analyse, analyse_graph

from crespr_onnx.graph.rules.elementwise import UNARY

B = "b = Conv(x, wb)"
# What some operators need around them: nodes before, and the call itself.
PREPARED = {"Cast": ("", "Cast<to = 1>(a)"), "Not": ("t = Cast<to = 9>(a)", "Not(t)")}


@pytest.mark.parametrize("op", UNARY)
def test_unary_operators_pass_channels_on(op: str):
    opset = max(21, onnx.defs.get_schema(op).since_version)
    before, call = PREPARED.get(op, ("", f"{op}(a)"))
    found = analyse(f"{before} b = {call}", opset=opset)
    assert found.axis("b") == (1, A)
    assert found.found() == []


def test_scalar_bounds_do_not_matter():
    assert analyse("b = Clip(a, low)", low=np.float32(0)).axis("b") == (1, A)


def test_an_operator_on_values_without_channels_is_no_obstacle():
    found = analyse("b = Relu(x)")
    assert found.found() == []
    assert "b" not in found.graph.values


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("b, m = Dropout(a) c = Cast<to = 1>(m)", "its output 'm' is used"),
        ("b = Clip(a, a)", "a further input carries channels"),
    ],
)
def test_unary_obstacles(body: str, reason: str):
    found = analyse(body)
    op = body.split("= ")[1].split("(")[0]
    assert found.found() == [(op, reason)]
    assert found.reasons("a") == {f"read by {op} '{op.lower()}_1': {reason}"}
    assert "b" not in found.graph.values


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize(
    ("opset", "setting", "over"),
    [
        (17, "", False),  # the last axis
        (17, "<axis = 2>", False),
        (17, "<axis = 0>", False),
        (17, "<axis = 1>", True),
        (17, "<axis = -3>", True),
        (11, "", True),  # axis 1 and all behind it
        (11, "<axis = 0>", True),
        (11, "<axis = 2>", False),
        (11, "<axis = -3>", True),
    ],
)
def test_softmax(op: str, opset: int, setting: str, over: bool):
    found = analyse(f"b = {op}{setting}(a)", opset=opset)
    assert found.found() == ([(op, "it normalises over the channels")] if over else [])
    assert ("b" in found.graph.values) is not over


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Pow", "Sum", "Mean", "Max", "Min"])
def test_both_operands_carry_the_same_channels(op: str):
    found = analyse(f"{B} c = {op}(a, b)", wb=(4, 3, 1, 1))
    assert found.axis("a") == found.axis("b") == found.axis("c") == (1, A)
    assert [g.channels.tolist() for g in found.graph.groups if not g.frozen] == [A]
    assert found.found() == []


@pytest.mark.parametrize(
    ("shape", "bound"),
    [
        ((4, 1, 1), {0: A}),
        ((1, 4, 1, 1), {1: A}),
        ((1, 4, 6, 6), {1: A}),
        ((6,), {}),
        ((1, 1, 1), {}),
        ((), {}),
    ],
)
def test_constant_operands(shape: tuple[int, ...], bound: dict[int, list[int]]):
    found = analyse("b = PRelu(a, k)", k=shape)
    assert found.axis("b") == (1, A)
    assert found.constant("k") == bound


def test_axes_count_from_the_right():
    found = analyse("b = Add(k, a) c = Mul(b, s)", start="dense", k=(7, 1, 4), s=(4,))
    assert found.axis("b") == (2, A)
    assert (found.constant("k"), found.constant("s")) == ({2: A}, {0: A})


def test_one_channel_repeated_over_all_is_frozen():
    found = analyse(f"{B} c = Add(b, a)", wb=(1, 3, 1, 1))
    assert found.axis("c") == (1, A)
    assert found.reasons("b") == {"Add 'add_2' repeats it over channels"}
    assert found.reasons("a") == {None}


@pytest.mark.parametrize(
    ("body", "arrays", "reason"),
    [
        (
            f"{B} t = Transpose<perm = [0, 2, 1, 3]>(b) c = Add(b, t)",
            {"wb": (6, 3, 1, 1)},
            "its operands carry channels on different axes",
        ),
        (f"{B} c = Add(b, x)", {"wb": (3, 3, 1, 1)}, "operand 'x' has no known channel axis"),
        (
            f"{B} c = Add(b, k)",
            {"wb": (1, 3, 1, 1), "k": (5, 1, 1)},
            "operand 'k' changes the number of channels",
        ),
    ],
)
def test_broadcast_obstacles(body: str, arrays: dict[str, tuple[int, ...]], reason: str):
    found = analyse(body, **arrays)
    assert found.found() == [("Add", reason)]
    assert found.reasons("b") == {
        f"read by Add 'add_{2 if 'Transpose' not in body else 3}': {reason}"
    }


def test_operands_that_the_caller_can_override_or_see_are_not_constants():
    for heads in ({"inputs": "float[4, 1, 1] k"}, {"outputs": "float[4, 1, 1] k"}):
        found = analyse("b = Add(a, k)", k=(4, 1, 1), **heads)
        assert found.found() == [("Add", "operand 'k' has no known channel axis")]


def test_batch_normalization():
    found = analyse("b = BatchNormalization(a, k, s, m, v)", k=(4,), s=(4,), m=(4,), v=(4,))
    assert found.axis("b") == (1, A)
    assert all(found.constant(name) == {0: A} for name in "ksmv")


@pytest.mark.parametrize(
    ("body", "more", "reason"),
    [
        (
            "b, m, w = BatchNormalization<training_mode = 1>(a, k, k, k, k)",
            {},
            "it is in training mode",
        ),
        (
            "b, m, v, n, w = BatchNormalization(a, k, k, k, k) c = Relu(m)",
            {"opset": 9},
            "its output 'm' is used",
        ),
        (
            "b = BatchNormalization(a, k, k, k, k)",
            {"inputs": "float[4] k"},
            "its parameters are not constants",
        ),
        (
            "t = Transpose<perm = [0, 2, 1, 3]>(a) b = BatchNormalization(t, k, k, k, k)",
            {"k": (6,)},
            "the channels of its input are not on axis 1",
        ),
    ],
)
def test_batch_normalization_obstacles(body: str, more: dict[str, object], reason: str):
    found = analyse(body, **({"k": (4,)} | more))
    assert found.found() == [("BatchNormalization", reason)]
    assert "b" not in found.graph.values


def test_unknown_shapes_are_obstacles():
    found = analyse_graph(
        """g (float[N, 3, 6, 6] x, int64[2] s) => (float[A, B, C, D] y) {
            a = Conv(x, wa) p, q = Split<axis = 2>(a, s) y = Softmax(p)
        }""",
        wa=(4, 3, 1, 1),
    )
    assert found.axis("q") == (1, A)
    assert found.found() == [("Softmax", "the shape of 'p' is unknown")]
