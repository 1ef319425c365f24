"""Lowering models of forms that the random networks do not have: ranks, fixed sizes, sharing."""

import numpy as np
import onnx_ir as ir
import pytest
from layout_helpers import channels_of, layout_of, masked
from pass_helpers import assert_interface_kept, assert_same_outputs, normal, parse

from crespr_onnx.graph.accounting import stored_weights
from crespr_onnx.stages.lower import finish, split

ODD, EVEN = [1, 0, 1, 0], [0, 1, 1, 0]
POSITIVE = normal(9, 4) ** 2 + np.float32(0.5)
CASES = {
    "one channel before a squeeze": (
        """g (float[N, 3, 4, 4] x) => (float[N, 2] y) {
            a = Conv(x, w) b = GlobalAveragePool(a) c = Squeeze(b, k) y = Gemm(c, u)
        }""",
        {"w": (4, 3, 1, 1), "k": np.array([2, 3]), "u": (4, 2)},
        {"a": [0, -1, -1, -1]},
    ),
    "a batch that is fixed": (
        """g (float[3, 3, 4, 4] x) => (float[3, 2] y) {
            a = Conv(x, w) b = Reshape(a, s) y = Gemm(b, u)
        }""",
        {"w": (4, 3, 1, 1), "s": np.array([3, 64]), "u": (64, 2)},
        {"a": [0, -1, 0, -1]},
    ),
    "an image as tokens": (
        """g (float[N, 3, 4, 4] x) => (float[N, 16, 2] y) {
            a = Conv(x, w) b = Reshape(a, s) t = Transpose<perm = [0, 2, 1]>(b)
            c = MatMul(t, v) d = Add(c, k) y = MatMul(d, u)
        }""",
        {"w": (4, 3, 1, 1), "s": np.array([-1, 4, 16]), "v": (4, 4), "k": (16, 4), "u": (4, 2)},
        {"a": ODD, "c": ODD},
    ),
    "tokens flat and back": (
        """g (float[N, 5, 6] x) => (float[N, 5, 2] y) {
            a = MatMul(x, w) b = Reshape(a, s) c = Relu(b) d = Reshape(c, t)
            e = MatMul(d, v) y = MatMul(e, u)
        }""",
        {
            "w": (6, 4), "s": np.array([0, 20]), "t": np.array([0, 5, 4]), "v": (4, 4), "u": (4, 2),
        },
        {"a": ODD, "e": EVEN},
    ),
    "query, key and value of one projection": (
        """g (float[N, 5, 6] x) => (float[N, 5, 2] y) {
            a = MatMul(x, w) h = Reshape(a, s) t = Transpose<perm = [2, 0, 3, 1, 4]>(h)
            i, j, k = Split<axis = 0>(t, ones)
            q = Squeeze(i, zero) r = Squeeze(j, zero) v = Squeeze(k, zero)
            kt = Transpose<perm = [0, 1, 3, 2]>(r) m = MatMul(q, kt) n = Softmax(m)
            o = MatMul(n, v) back = Transpose<perm = [0, 2, 1, 3]>(o) c = Reshape(back, whole)
            y = MatMul(c, u)
        }""",
        {
            "w": (6, 36), "s": np.array([0, 5, 3, 4, 3]), "ones": np.array([1, 1, 1]),
            "zero": np.array([0]), "whole": np.array([0, 5, 12]), "u": (12, 2),
        },
        {"a": [0, -1, 0, -1]},
    ),
    "a list that shows channels twice": (
        """g (float[N, 3] x) => (float[N, 2] y) {
            a = Gemm(x, w) b = Gather<axis = 1>(a, k) y = Gemm(b, u)
        }""",
        {"w": (3, 4), "k": np.array([0, 0, 2, 3, 3]), "u": (5, 2)},
        {"a": [0], "a__2": [-1], "a__3": [0]},
    ),
    "images side by side": (
        """g (float[N, 3, 4, 4] x) => (float[N, 2, 4, 8] y) {
            a = Conv(x, w) b = Conv(x, v) c = Concat<axis = -1>(a, b) d = Conv(c, z)
            y = Conv(d, u)
        }""",
        {"w": (4, 3, 1, 1), "v": (4, 3, 1, 1), "z": (4, 4, 1, 1), "u": (2, 4, 1, 1)},
        {"a": ODD, "d": EVEN},
    ),
    "one spatial axis": (
        """g (float[N, 3, 8] x) => (float[N, 2, 8] y) {
            a = Conv(x, w) b = Conv<pads = [1, 1]>(a, v, k) y = Conv(b, u)
        }""",
        {"w": (4, 3, 1), "v": (4, 4, 3), "k": (4,), "u": (2, 4, 1)},
        {"a": ODD, "b": EVEN},
    ),
    "shared bias and normalisation": (
        """g (float[N, 3, 4, 4] x) => (float[N, 2, 4, 4] y) {
            a = Conv(x, w, k) b = BatchNormalization(a, s, k, s, p) c = Conv(b, z, k)
            d = BatchNormalization(c, s, k, s, p) e = Relu(d) y = Conv(e, u)
        }""",
        {
            "w": (4, 3, 1, 1), "k": (4,), "s": (4,), "p": POSITIVE, "z": (4, 4, 1, 1),
            "u": (2, 4, 1, 1),
        },
        {"a": ODD},
    ),
    "tokens of four axes": (
        """g (float[N, 2, 3, 6] x) => (float[N, 2, 3, 2] y) {
            a = MatMul(x, w) b = MatMul(a, v) c = Add(b, k) d = Relu(c) e = MatMul(d, z)
            y = MatMul(e, u)
        }""",
        {"w": (6, 4), "v": (4, 4), "k": (4,), "z": (4, 4), "u": (4, 2)},
        {"a": ODD, "b": [0, 0, 1, 1], "e": [1, 1, 0, 0]},
    ),
    "any number of tokens": (
        """g (float[N, T, 6] x) => (float[N, T, 2] y) {
            a = MatMul(x, w) b = MatMul(a, v) c = Add(b, k) d = Relu(c) y = MatMul(d, u)
        }""",
        {"w": (6, 4), "v": (4, 4), "k": (4,), "u": (4, 2)},
        {"a": ODD, "b": EVEN},
    ),
    "transposed convolutions": (
        """g (float[N, 3, 4, 4] x) => (float[N, 2, H, W] y) {
            a = Conv(x, w) b = ConvTranspose<strides = [2, 2]>(a, v, k)
            c = BatchNormalization(b, k, k, k, p) d = Relu(c) y = ConvTranspose(d, u)
        }""",
        {"w": (4, 3, 1, 1), "v": (4, 4, 2, 2), "k": (4,), "p": POSITIVE, "u": (4, 2, 1, 1)},
        {"a": ODD, "b": EVEN},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_lowering(name: str):
    body, arrays, labels = CASES[name]
    given = {n: normal(i, *a) if isinstance(a, tuple) else a
             for i, (n, a) in enumerate(arrays.items())}  # fmt: skip
    before = parse(body, **given)
    graph = channels_of(before)
    layout = layout_of(graph, **labels)
    before = masked(before, graph, layout)
    small = split(ir.from_proto(before), graph, layout)
    stored = {e.weight: layout.stored_weights(graph, e) for e in graph.edges}
    for model in (small, finish(small, "grouped"), finish(small, "separate")):
        assert_interface_kept(before, ir.to_proto(model))
        assert_same_outputs(before, ir.to_proto(model))
        assert stored_weights(model) == sum(stored.values()) < stored_weights(ir.from_proto(before))
