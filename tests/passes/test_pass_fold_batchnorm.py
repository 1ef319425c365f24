import numpy as np
import pytest
from pass_helpers import apply, initializers, mark, nodes, normal, parse, properties

from crespr_onnx.passes.fold_batchnorm import FoldBatchNorm


def norm(channels: int, seed: int = 3) -> dict[str, np.ndarray]:
    return {
        "gamma": normal(seed, channels),
        "beta": normal(seed + 1, channels),
        "mean": normal(seed + 2, channels),
        "var": normal(seed + 3, channels) ** 2 + 0.1,
    }


def conv(tail: str = "", **attributes: object) -> str:
    listed = ", ".join(f"{k} = {v}" for k, v in attributes.items())
    return f"""
        g (float[N, 4, 5, 5] x) => (float[N, M, H, W] y) {{
            z = Conv<{listed}>(x, w{tail})
            n = BatchNormalization<epsilon = 0.01>(z, gamma, beta, mean, var)
            y = Relu(n)
        }}"""


@pytest.mark.parametrize("group", [1, 2, 4])
@pytest.mark.parametrize("bias", [False, True])
def test_conv(group: int, bias: bool):
    arrays = {"w": normal(0, 8, 4 // group, 3, 3), **norm(8)}
    if bias:
        arrays["b"] = normal(1, 8)
    before = parse(conv(", b" if bias else "", group=group), **arrays)
    after = apply(FoldBatchNorm(), before)
    name = "b" if bias else "conv_0/bias"
    assert nodes(after) == [f"n = Conv(x, w, {name})", "y = Relu(n)"]
    assert sorted(initializers(after)) == sorted(["w", name])


def test_the_formula_literally():
    a = {"w": normal(0, 3, 4, 1, 1), "b": normal(1, 3), **norm(3)}
    after = initializers(apply(FoldBatchNorm(), parse(conv(", b"), **a)))
    for m in range(3):
        s = float(a["gamma"][m]) / np.sqrt(float(a["var"][m]) + 0.01)
        np.testing.assert_allclose(after["w"][m], s * a["w"][m].astype(np.float64), rtol=1e-6)
        expected = s * (float(a["b"][m]) - float(a["mean"][m])) + float(a["beta"][m])
        np.testing.assert_allclose(after["b"][m], expected, rtol=1e-5)


@pytest.mark.parametrize("group", [1, 2])
def test_conv_transpose(group: int):
    before = parse(
        f"""
        g (float[N, 4, 5, 5] x) => (float[N, M, H, W] y) {{
            z = ConvTranspose<group = {group}, strides = [2, 2]>(x, w)
            y = BatchNormalization(z, gamma, beta, mean, var)
        }}""",
        w=normal(0, 4, 6 // group, 3, 3),
        **norm(6),
    )
    after = apply(FoldBatchNorm(), before)
    assert nodes(after) == ["y = ConvTranspose(x, w, convtranspose_0/bias)"]


@pytest.mark.parametrize(
    ("attributes", "shape", "bias"),
    [
        ("", (4, 3), normal(1, 3)),
        ("transB = 1", (3, 4), normal(1, 1, 3)),
        ("alpha = 0.5, beta = 2.0", (4, 3), normal(1, 3)),
        ("beta = 2.0", (4, 3), np.float32(0.7)),
        ("alpha = 2.0", (4, 3), None),
    ],
)
def test_gemm(attributes: str, shape: tuple[int, int], bias: np.ndarray | None):
    arrays = {"w": normal(0, *shape), **norm(3)}
    if bias is not None:
        arrays["b"] = bias
    before = parse(
        f"""
        g (float[N, 4] x) => (float[N, 3] y) {{
            z = Gemm<{attributes}>(x, w{", b" if bias is not None else ""})
            y = BatchNormalization(z, gamma, beta, mean, var)
        }}""",
        **arrays,
    )
    after = apply(FoldBatchNorm(), before)
    assert nodes(after) == [f"y = Gemm(x, w, {'gemm_0/bias' if bias is None else 'b'})"]


def test_two_in_a_row():
    before = parse(
        """
        g (float[N, 4, 5, 5] x) => (float[N, M, H, W] y) {
            z = Conv(x, w)
            n = BatchNormalization(z, gamma, beta, mean, var)
            y = BatchNormalization(n, gamma, beta, mean, var)
        }""",
        w=normal(0, 8, 4, 3, 3),
        **norm(8),
    )
    assert nodes(apply(FoldBatchNorm(), before)) == ["y = Conv(x, w, conv_0/bias)"]


def test_a_shared_bias_is_copied_and_marks_stay():
    before = parse(
        """
        g (float[N, 4, 5, 5] x) => (float[N, M, H, W] y, float[N, M, H, W] r) {
            z = Conv<group = 2>(x, w, b)
            y = BatchNormalization(z, gamma, beta, mean, var)
            r = Conv(x, w2, b)
        }""",
        w=normal(0, 8, 2, 3, 3),
        w2=normal(9, 8, 4, 3, 3),
        b=normal(1, 8),
        **norm(8),
    )
    mark(before, "conv_0", clusters=2)
    after = apply(FoldBatchNorm(), before)
    assert nodes(after) == ["y = Conv(x, w, conv_0/bias)", "r = Conv(x, w2, b)"]
    assert properties(after, ["conv_0"]) == [{"crespr.clusters": "2"}]


SHARED_WEIGHT = """
    g (float[N, 4, 5, 5] x) => (float[N, M, H, W] y, float[N, M, H, W] r) {
        z = Conv(x, w)
        y = BatchNormalization(z, gamma, beta, mean, var)
        r = Conv(x, w)
    }"""
SECOND_READER = """
    g (float[N, 4, 5, 5] x) => (float[N, M, H, W] y, float[N, M, H, W] r) {
        z = Conv(x, w)
        y = BatchNormalization(z, gamma, beta, mean, var)
        r = Relu(z)
    }"""
ALSO_OUTPUT = """
    g (float[N, 4, 5, 5] x) => (float[N, M, H, W] y, float[N, M, H, W] z) {
        z = Conv(x, w)
        y = BatchNormalization(z, gamma, beta, mean, var)
    }"""
COMPUTED_PARAMETER = """
    g (float[N, 4, 5, 5] x) => (float[N, M, H, W] y) {
        z = Conv(x, w)
        m = Neg(mean)
        y = BatchNormalization(z, gamma, beta, m, var)
    }"""
NO_LAYER = """
    g (float[N, 8, 5, 5] x) => (float[N, M, H, W] y) {
        z = Relu(x)
        n = BatchNormalization(z, gamma, beta, mean, var)
        y = Mul(n, w)
    }"""


@pytest.mark.parametrize(
    "graph", [SHARED_WEIGHT, SECOND_READER, ALSO_OUTPUT, COMPUTED_PARAMETER, NO_LAYER]
)
def test_left_alone(graph: str):
    weight = normal(0, 8, 1, 1) if graph is NO_LAYER else normal(0, 8, 4, 3, 3)
    apply(FoldBatchNorm(), parse(graph, w=weight, **norm(8)), modified=False)


def test_training_mode_is_left_alone():
    graph = """
        g (float[N, 4, 5, 5] x) => (float[N, 8, 3, 3] y) {
            z = Conv(x, w)
            y, rm, rv = BatchNormalization<training_mode = 1>(z, gamma, beta, mean, var)
        }"""
    apply(FoldBatchNorm(), parse(graph, w=normal(0, 8, 4, 3, 3), **norm(8)), modified=False)


def test_a_bias_folds_unless_it_varies_over_the_batch():
    graph = """
        g (float[1, 4] x) => (float[1, 3] y) {
            z = Gemm(x, w, b)
            y = BatchNormalization(z, gamma, beta, mean, var)
        }"""
    model = parse(graph, w=normal(0, 4, 3), b=normal(1, 1, 1), **norm(3))
    assert nodes(apply(FoldBatchNorm(), model)) == ["y = Gemm(x, w, b)"]
    model = parse(graph.replace("[1,", "[3,"), w=normal(0, 4, 3), b=normal(1, 3, 1), **norm(3))
    apply(FoldBatchNorm(), model, modified=False)
