import numpy as np
import onnx
import onnx_ir as ir
import pytest
from pass_helpers import apply, initializers, nodes, normal, parse, text

from crespr_onnx.errors import ModelError
from crespr_onnx.passes.fold_constants import FoldConstants

COMPUTED_PADS = """
    g (float[N, 4, 6, 6] x) => (float[N, 8, 6, 6] y) {
        shape = Constant<value: tensor = int64[1] {4}>()
        half = Constant<value: tensor = int64[1] {2}>()
        rest = Mul(shape, half)
        missing = Sub(rest, shape)
        zero = Constant<value: tensor = int64 {0}>()
        axes = Constant<value_ints = [0]>()
        zeros = Unsqueeze(zero, axes)
        before = Div(missing, half)
        pads = Concat<axis = 0>(zeros, before, zeros, zeros, zeros, before, zeros, zeros)
        y = Pad(x, pads)
    }
"""


def test_computed_pads_become_one_initializer():
    after = apply(FoldConstants(), parse(COMPUTED_PADS))
    assert nodes(after) == ["y = Pad(x, pads)"]
    (pads,) = after.graph.initializer
    assert pads.name == "pads"
    np.testing.assert_array_equal(initializers(after)["pads"], [0, 2, 0, 0, 0, 2, 0, 0])


def test_constant_nodes_of_every_kind_are_lifted_under_their_names():
    before = parse("""
        g (float[N, 2] x) => (float[N, 2] y) {
            w = Constant<value: tensor = float[2, 2] {1, 2, 3, 4}>()
            b = Constant<value_floats = [1.0, 2.0]>()
            s = Constant<value_float = 3.0>()
            z = Gemm(x, w, b)
            y = Mul(z, s)
        }
    """)
    after = apply(FoldConstants(), before)
    assert nodes(after) == ["z = Gemm(x, w, b)", "y = Mul(z, s)"]
    assert sorted(initializers(after)) == ["b", "s", "w"]
    assert [n.name for n in after.graph.node] == ["gemm_3", "mul_4"]


def test_static_dimensions_of_a_dynamic_shape_are_folded():
    before = parse(
        """
        g (float[N, 2, 3] x) => (float[N, 6] y) {
            shape = Shape(x)
            width = Gather<axis = 0>(shape, two)
            six = Mul(width, two)
            target = Concat<axis = 0>(minus, six)
            y = Reshape(x, target)
        }""",
        two=np.array([2]),
        minus=np.array([-1]),
    )
    after = apply(FoldConstants(), before)
    assert nodes(after) == ["y = Reshape(x, target)"]
    np.testing.assert_array_equal(initializers(after)["target"], [-1, 6])


def test_a_dynamic_batch_stays_computed():
    before = parse(
        """
        g (float[N, 2, 3] x) => (float[N, 6] y) {
            shape = Shape(x)
            batch = Gather<axis = 0>(shape, zero)
            target = Concat<axis = 0>(batch, minus)
            y = Reshape(x, target)
        }""",
        zero=np.array([0]),
        minus=np.array([-1]),
    )
    apply(FoldConstants(), before, modified=False)


def test_weights_keep_their_names_and_operators():
    before = parse(
        """
        g (float[N, 3] x) => (float[N, 2] y) {
            t = Transpose(w)
            z = MatMul(x, t)
            row = Unsqueeze(b, axes)
            y = Add(z, row)
        }""",
        w=normal(0, 2, 3),
        b=normal(1, 2),
        axes=np.array([0]),
    )
    apply(FoldConstants(), before, modified=False)


@pytest.mark.parametrize("op", ["Identity", "Dropout", "Abs"])
def test_nothing_but_constants_is_rewritten(op: str):
    """onnxscript's folding drops these."""
    before = parse(f"""
        g (float[N, 2] x) => (float[N, 2] y) {{
            a = Relu(x)
            b = {op}(a)
            y = Relu(b)
        }}""")
    apply(FoldConstants(), before, modified=False)


@pytest.mark.parametrize(
    ("expression", "arrays"),
    [
        ("Expand(one, big)", {"one": np.array([1]), "big": np.array([1 << 20])}),
        ("ConstantOfShape(big)", {"big": np.array([1 << 40])}),
        ("Tile(one, big)", {"one": np.array([1]), "big": np.array([1 << 40])}),
        ("Range(none, many, step)",
         {"none": np.array(0), "many": np.array(1 << 40), "step": np.array(1)}),
        ("Add(long, long)", {"long": np.arange(2000)}),
    ],
)  # fmt: skip
def test_large_tensors_are_not_made(expression: str, arrays: dict[str, np.ndarray]):
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N] x) => (float[N] y, int64 n) {'
        f" t = {expression} n = Size(t) y = Relu(x) }}"
    )
    for name, array in arrays.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    loaded = ir.from_proto(model)
    assert not FoldConstants()(loaded).modified
    assert nodes(ir.to_proto(loaded)) == text(f"""
        t = {expression}
        n = Size(t)
        y = Relu(x)
    """)


def test_the_limit_is_an_option():
    arrays = {"long": np.arange(4)}
    before = parse(
        "g (float[N, 4] x) => (float[N, 4] y) { t = Add(long, long) f = Cast<to = 1>(t) "
        "y = Add(x, f) }",
        **arrays,
    )
    apply(FoldConstants(max_elements=3), before, modified=False)
    after = apply(FoldConstants(max_elements=4), before)
    assert nodes(after) == ["y = Add(x, f)"]


def test_an_initializer_that_callers_may_override_is_not_constant():
    before = parse(
        "g (float[N, 4] x, int64[2] t) => (float[M, K] y) { u = Add(t, t) y = Reshape(x, u) }"
    )
    before.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, 2]), "t"))
    model = ir.from_proto(before)
    assert not FoldConstants()(model).modified


def test_a_constant_graph_output_stays_a_node():
    before = parse(
        "g (float[N] x) => (float[N] y, int64[1] k) { y = Relu(x) k = Mul(two, two) }",
        two=np.array([2]),
    )
    apply(FoldConstants(), before, modified=False)


def test_a_sparse_constant_is_refused():
    model = ir.from_proto(parse("g (float[N] x) => (float[N] y) { y = Relu(x) }"))
    model.graph.insert_before(
        model.graph[0],
        ir.Node("", "Constant", [], [ir.Attr("sparse_value", ir.AttributeType.SPARSE_TENSOR, None)],
                name="thin"),
    )  # fmt: skip
    with pytest.raises(ModelError, match="Constant node 'thin' holds a sparse tensor; only dense"):
        FoldConstants().call(model)


def test_the_condition_of_a_branch_is_folded_and_the_branch_left():
    before = parse(
        """
        g (float[N, 2] x) => (float[N, 2] y) {
            width = Shape<start = 1>(x)
            same = Equal(width, two)
            c = If(same)<
                then_branch = a () => (float[N, 2] p) { p = Neg(x) },
                else_branch = b () => (float[N, 2] r) { r = Abs(x) }>
            y = Relu(c)
        }""",
        two=np.array([2]),
    )
    after = apply(FoldConstants(), before)
    assert nodes(after) == ["c = If(same)", "y = Relu(c)"]
    np.testing.assert_array_equal(initializers(after)["same"], [True])
