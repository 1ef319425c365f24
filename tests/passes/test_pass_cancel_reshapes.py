import numpy as np
import onnx
import pytest
from pass_helpers import apply, initializers, nodes, normal, ops, parse, text
from split_models import batched, batched_arrays, mark_batched

from crespr_onnx.passes.cancel_reshapes import CancelReshapes


def chain(between: str, *, second: int = 2, outputs: str = "float[N, 4] y", **more: np.ndarray):
    """Two batched layers 6 -> 8 -> 4; the second has `second` clusters, reads r, first makes a."""
    model = parse(
        f"""
        g (float[N, 6] x) => ({outputs}) {{
            {batched("one", "x", "a")}
            {between}
            {batched("two", "r", "y")}
        }}""",
        **batched_arrays("one", 2, 3, 4),
        **batched_arrays("two", second, 8 // second, 4 // second, 5),
        **more,
    )
    mark_batched(model, 2)
    return model


def test_activations_work_on_clusters():
    after = apply(CancelReshapes(), chain("b = Relu(a) r = Clip(b, low, high)",
                                          low=np.float32(0), high=np.float32(1)))  # fmt: skip
    assert nodes(after) == text("""
        one_r = Reshape(x, one_in)
        one_t = Transpose(one_r)
        one_p = MatMul(one_t, one_w)
        one_s = Add(one_p, one_b)
        b/clusters = Relu(one_s)
        r/clusters = Clip(b/clusters, low, high)
        two_p = MatMul(r/clusters, two_w)
        two_s = Add(two_p, two_b)
        two_u = Transpose(two_s)
        y = Reshape(two_u, two_out)
    """)
    assert sorted(initializers(after)) == sorted(
        ["one_in", "one_w", "one_b", "two_w", "two_b", "two_out", "low", "high"]
    )


@pytest.mark.parametrize(
    "between",
    [
        "r = Identity(a)",
        "r = Sigmoid(a)",
        "s = Sigmoid(a) r = Mul(a, s)",
        "r = Mul(a, vector)",
        "r = Sub(rows, a)",
        "r = PRelu(a, vector)",
        "r = Add(a, number)",
    ],
)
def test_operators_on_elements(between: str):
    arrays = {"vector": normal(8, 8), "rows": normal(9, 1, 8), "number": np.float32(0.5)}
    used = {name: array for name, array in arrays.items() if name in between}
    after = apply(CancelReshapes(), chain(between, **used))
    assert ops(after).count("Reshape") == ops(after).count("Transpose") == 2


def test_a_residual_around_a_layer():
    model = parse(
        f"""
        g (float[N, 6] x) => (float[N, 6] y) {{
            {batched("one", "x", "a")}
            r0 = Relu(a)
            {batched("two", "r0", "b")}
            s = Add(b, r0)
            r1 = Relu(s)
            {batched("three", "r1", "y")}
        }}""",
        **batched_arrays("one", 2, 3, 4),
        **batched_arrays("two", 2, 4, 4, 3),
        **batched_arrays("three", 2, 4, 3, 6),
    )
    after = apply(CancelReshapes(), model)
    assert ops(after).count("Reshape") == 2
    assert ops(after).count("Add") == 4


@pytest.mark.parametrize("also", ["float[N, 8] r", "float[N, 3] d"])
def test_what_is_still_needed_whole_is_merged_behind(also: str):
    dense = "r = Relu(a) d = Gemm(r, dense)" if also.endswith("d") else "r = Relu(a)"
    more = {"dense": normal(7, 8, 3)} if also.endswith("d") else {}
    after = apply(CancelReshapes(), chain(dense, outputs=f"float[N, 4] y, {also}", **more))
    assert ops(after).count("Relu") == 1
    assert "r = Reshape(r/transpose/output, r/shape)" in nodes(after)


def test_a_chain_of_three_layers_is_reshaped_at_its_ends_only():
    model = parse(
        f"""
        g (float[N, 6] x) => (float[N, 2] y) {{
            {batched("one", "x", "a")}
            r = Relu(a)
            {batched("two", "r", "b")}
            s = Sigmoid(b)
            t = Mul(b, s)
            {batched("three", "t", "y")}
        }}""",
        **batched_arrays("one", 2, 3, 4),
        **batched_arrays("two", 2, 4, 5),
        **batched_arrays("three", 2, 5, 1),
    )
    mark_batched(model, 2)
    after = apply(CancelReshapes(), model)
    assert nodes(after) == text("""
        one_r = Reshape(x, one_in)
        one_t = Transpose(one_r)
        one_p = MatMul(one_t, one_w)
        one_s = Add(one_p, one_b)
        r/clusters = Relu(one_s)
        two_p = MatMul(r/clusters, two_w)
        two_s = Add(two_p, two_b)
        s/clusters = Sigmoid(two_s)
        t/clusters = Mul(two_s, s/clusters)
        three_p = MatMul(t/clusters, three_w)
        three_s = Add(three_p, three_b)
        three_u = Transpose(three_s)
        y = Reshape(three_u, three_out)
    """)


def test_three_axes():
    """The form of a MatMul on [N, T, K n]: the clusters go in front of the positions."""
    model = parse(
        """
        g (float[N, 5, 6] x) => (float[N, 5, 4] y) {
            a0 = Reshape(x, split6)
            a1 = Transpose<perm = [0, 2, 1, 3]>(a0)
            a2 = MatMul(a1, w1)
            a3 = Transpose<perm = [0, 2, 1, 3]>(a2)
            a = Reshape(a3, join8)
            r = Mul(a, vector)
            b0 = Reshape(r, split8)
            b1 = Transpose<perm = [0, 2, 1, 3]>(b0)
            b2 = MatMul(b1, w2)
            b3 = Transpose<perm = [0, 2, 1, 3]>(b2)
            y = Reshape(b3, join4)
        }""",
        split6=np.array([0, 0, 2, 3]),
        split8=np.array([0, 0, 2, 4]),
        join8=np.array([0, 0, 8]),
        join4=np.array([0, 0, 4]),
        w1=normal(0, 2, 3, 4),
        w2=normal(1, 2, 4, 2),
        vector=normal(2, 8),
    )
    after = apply(CancelReshapes(), model)
    assert nodes(after) == text("""
        a0 = Reshape(x, split6)
        a1 = Transpose(a0)
        a2 = MatMul(a1, w1)
        r/clusters = Mul(a2, vector/clusters)
        b2 = MatMul(r/clusters, w2)
        b3 = Transpose(b2)
        y = Reshape(b3, join4)
    """)


@pytest.mark.parametrize(
    ("between", "second"),
    [
        ("r = Relu(a)", 4),
        ("r = Softmax(a)", 2),
        ("r = Add(a, sides)", 2),
        ("d = Gemm(a, dense) r = Relu(d)", 2),
    ],
)
def test_left_alone(between: str, second: int):
    arrays = {"sides": normal(8, 3, 8), "dense": normal(9, 8, 8)}
    used = {name: array for name, array in arrays.items() if name in between}
    model = chain(between, second=second, **used)
    if "sides" in between:  # that one fixes the batch
        for value in (model.graph.input[0], model.graph.output[0]):
            value.type.tensor_type.shape.dim[0].dim_value = 3
        onnx.checker.check_model(model, full_check=True)
    apply(CancelReshapes(), model, modified=False)


def test_a_single_layer():
    model = parse(
        f"g (float[N, 6] x) => (float[N, 8] y) {{ {batched('one', 'x', 'y')} }}",
        **batched_arrays("one", 2, 3, 4),
    )
    apply(CancelReshapes(), model, modified=False)
