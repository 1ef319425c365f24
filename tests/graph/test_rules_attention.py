"""Heads of attention are channels, from the projections that make them to the one that reads."""

import numpy as np
import pytest
from rule_helpers import Analysis, analyse, analyse_graph

HEADS, SIZE, TOKENS = 2, 3, 5
WIDTH = HEADS * SIZE


def project(name: str, *, keys: bool = False) -> str:
    """Nodes that make the heads of a query, key or value."""
    order = "[0, 2, 3, 1]" if keys else "[0, 2, 1, 3]"
    return f"""
        {name}_p = MatMul(x, w{name})
        {name}_b = Add({name}_p, b{name})
        {name}_r = Reshape({name}_b, cut)
        {name} = Transpose<perm = {order}>({name}_r)
    """


def attention(middle: str, opset: int = 17, **more: object) -> Analysis:
    """Four projections around what makes `m` out of `q`, `k` and `v`."""
    text = f"""g (float[N, {TOKENS}, 4] x) => (float[N, {TOKENS}, 4] y) {{
        {project("q")} {project("k", keys="Attention" not in middle)} {project("v")}
        {middle}
        t = Transpose<perm = [0, 2, 1, 3]>(m)
        c = Reshape(t, join)
        y = MatMul(c, wo)
    }}"""
    weights = {f"w{name}": (4, WIDTH) for name in "qkv"} | {f"b{name}": (WIDTH,) for name in "qkv"}
    shapes = {
        "cut": np.array([0, TOKENS, HEADS, SIZE]),
        "join": np.array([0, TOKENS, WIDTH]),
    }
    return analyse_graph(text, opset, **weights, **shapes, wo=(WIDTH, 4), **more)


PRODUCTS = """
    s = MatMul(q, k)
    scaled = Mul(s, scale)
    a = Softmax(scaled)
    m = MatMul(a, v)
"""


def test_heads_reach_from_the_projections_to_the_output():
    found = attention(PRODUCTS, scale=np.float32(0.5))
    assert found.found() == []
    heads = found.axis("q")[1]
    assert len(heads) == HEADS
    for value, axis in (("k", 1), ("v", 1), ("s", 1), ("m", 1), ("t", 2)):
        assert found.axis(value) == (axis, heads)
    every = np.repeat(heads, SIZE).tolist()
    assert found.axis("c") == (2, every)
    assert found.constant("wo") == {0: every, 1: found.axis("y")[1]}
    for name in "qkv":
        assert found.constant(f"w{name}")[1] == every
        assert found.constant(f"b{name}") == {0: every}
    assert found.reasons("q") == {None}


def test_attention_as_one_operator():
    found = attention("m = Attention(q, k, v)", opset=23)
    assert found.found() == []
    assert found.axis("m") == (1, found.axis("q")[1])


def test_a_mask_may_be_added():
    middle = PRODUCTS.replace("Softmax(scaled)", "Softmax(hidden)")
    middle = middle.replace("a = ", "hidden = Add(scaled, mask) a = ")
    found = attention(middle, scale=np.float32(1), mask=(1, 1, TOKENS, TOKENS))
    assert found.found() == []


@pytest.mark.parametrize(
    ("body", "more", "reason"),
    [
        (
            "b = MatMul(a, w)",
            {"inputs": "float[N, 6, 3] w"},
            "it has no constant matrix on the right",
        ),
        ("b = MatMul(w, a)", {"w": (6, 6)}, "it has no constant matrix on the right"),
        (
            "t = Transpose<perm = [0, 2, 3, 1]>(a) b = MatMul(t, a)",
            {},
            "its operands carry channels on different axes",
        ),
        (
            "t = Transpose<perm = [0, 2, 3, 1]>(a) u = Conv(x, w) "
            "v = Transpose<perm = [0, 2, 3, 1]>(u) b = MatMul(t, v)",
            {"w": (6, 3, 1, 1)},
            "it multiplies matrices of channels",
        ),
        (
            "u = Conv(x, w) b = MatMul(u, a)",
            {"w": (1, 3, 1, 1)},
            "it repeats the channels of one operand",
        ),
        ("b, h = LSTM<hidden_size = 2>(t, w, r)", {}, "its gates mix all channels"),
    ],
)
def test_obstacles(body: str, more: dict[str, object], reason: str):
    if "LSTM" in body:
        body = "p = GlobalMaxPool(a) t = Squeeze(p, k) " + body
        more = {"k": np.array([3]), "w": (1, 8, 1), "r": (1, 8, 2)}
    found = analyse(body, **more)
    assert [why for _, why in found.found()] == [reason]
    assert "b" not in found.graph.values
    assert None not in found.reasons("a")


def test_attention_over_joined_heads():
    body = "b = Attention<q_num_heads = 2, kv_num_heads = 2>(a, a, a)"
    found = analyse(body, start="tokens", opset=23)
    assert found.found() == [("Attention", "its heads are not an axis of their own")]
