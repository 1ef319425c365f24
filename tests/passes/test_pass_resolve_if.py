"""An If whose condition is constant gives way to its branch."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from pass_helpers import apply, initializers, nodes, parse, text

from crespr_onnx.passes.fold_constants import FoldConstants
from crespr_onnx.passes.resolve_if import ResolveIf

CHOICE = """
    g (float[N, 2] x) => (float[N, 2] y) {
        h = Relu(x)
        c = If(yes)<
            then_branch = a () => (float[N, 2] p) { q = Neg(h)  p = Abs(q) },
            else_branch = b () => (float[N, 2] r) { r = Sigmoid(h) }>
        y = Exp(c)
    }
"""


@pytest.mark.parametrize(
    ("yes", "expected"),
    [
        (
            True,
            """h = Relu(x)
            if_1/q = Neg(h)
            if_1/p = Abs(if_1/q)
            y = Exp(if_1/p)""",
        ),
        (
            np.array([False]),
            """h = Relu(x)
            if_1/r = Sigmoid(h)
            y = Exp(if_1/r)""",
        ),
    ],
)
def test_the_branch_that_is_taken_replaces_the_if(yes, expected):
    after = apply(ResolveIf(), parse(CHOICE, yes=np.asarray(yes)))
    assert nodes(after) == text(expected)
    assert initializers(after) == {}
    assert len({node.name for node in after.graph.node}) == len(after.graph.node)


def test_a_condition_that_is_computed_stays():
    before = parse(
        """
        g (float[N, 2] x) => (float[N, 2] y) {
            size = Size(x)
            yes = Greater(size, four)
            y = If(yes)<
                then_branch = a () => (float[N, 2] p) { p = Neg(x) },
                else_branch = b () => (float[N, 2] r) { r = Abs(x) }>
        }""",
        four=np.array(4),
    )
    apply(ResolveIf(), before, modified=False)


def test_a_model_without_branches_stays():
    apply(
        ResolveIf(), parse("g (float[N, 2] x) => (float[N, 2] y) { y = Relu(x) }"), modified=False
    )


def test_an_output_of_the_graph_keeps_its_name():
    before = parse(
        """
        g (float[N, 2] x) => (float[N, 2] y, float[N, 2] z) {
            y, a = If(yes)<
                then_branch = a () => (float[N, 2] p, float[N, 2] q) { p = Neg(x)  q = Abs(p) },
                else_branch = b () => (float[N, 2] r, float[N, 2] s) { r = Abs(x)  s = Neg(r) }>
            z = Add(a, y)
        }""",
        yes=np.array(True),
    )
    after = apply(ResolveIf(), before)
    assert nodes(after) == text("""
        if_0/p = Neg(x)
        if_0/q = Abs(if_0/p)
        y = Identity(if_0/p)
        z = Add(if_0/q, y)
    """)


def test_branches_in_branches_and_weights_in_them():
    before = parse(
        """
        g (float[N, 2] x) => (float[N, 2] y) {
            c = If(yes)<
                then_branch = a () => (float[N, 2] p) {
                    u = Neg(x)
                    p = If(no)<
                        then_branch = aa () => (float[N, 2] s) { s = Neg(u) },
                        else_branch = ab () => (float[N, 2] t) {
                            w = Constant<value_floats = [3.0, 4.0]>()
                            t = Mul(u, w)
                        }>
                },
                else_branch = b () => (float[N, 2] r) { r = Abs(x) }>
            y = Relu(c)
        }""",
        yes=np.array(True),
        no=np.array(False),
    )
    after = apply(ir.passes.Sequential(FoldConstants(), ResolveIf()), before)
    assert [node.op_type for node in after.graph.node] == ["Neg", "Mul", "Relu"]
    (weight,) = initializers(after).values()
    np.testing.assert_array_equal(weight, [3, 4])


def test_an_inner_branch_that_stays_still_sees_what_was_around_it():
    before = parse(
        """
        g (float[N, 2] x) => (float[N, 2] y) {
            size = Size(x)
            big = Greater(size, four)
            c = If(yes)<
                then_branch = a () => (float[N, 2] p) {
                    h = Neg(x)
                    p = If(big)<
                        then_branch = aa () => (float[N, 2] s) { s = Abs(h) },
                        else_branch = ab () => (float[N, 2] t) { t = Exp(h) }>
                },
                else_branch = b () => (float[N, 2] r) { r = Abs(x) }>
            y = Relu(c)
        }""",
        yes=np.array(True),
        four=np.array(4),
    )
    after = apply(ResolveIf(), before)
    assert [node.op_type for node in after.graph.node] == ["Size", "Greater", "Neg", "If", "Relu"]


def test_two_ifs_with_the_same_inner_names():
    before = parse(
        """
        g (float[N, 2] x) => (float[N, 2] y) {
            c = If(yes)<
                then_branch = a () => (float[N, 2] p) { p = Neg(x) },
                else_branch = b () => (float[N, 2] r) { r = Abs(x) }>
            d = If(yes)<
                then_branch = a () => (float[N, 2] p) { p = Exp(c) },
                else_branch = b () => (float[N, 2] r) { r = Abs(c) }>
            y = Add(c, d)
        }""",
        yes=np.array(True),
    )
    after = apply(ResolveIf(), before)
    assert nodes(after) == text("""
        if_0/p = Neg(x)
        if_1/p = Exp(if_0/p)
        y = Add(if_0/p, if_1/p)
    """)


def test_a_branch_that_returns_a_value_from_outside():
    branch = onnx.helper.make_graph(
        [], "a", [], [onnx.helper.make_tensor_value_info("h", onnx.TensorProto.FLOAT, None)]
    )
    before = parse(CHOICE, yes=np.array(True))
    (then,) = [a for n in before.graph.node for a in n.attribute if a.name == "then_branch"]
    then.g.CopyFrom(branch)
    model = ir.from_proto(before)
    assert ResolveIf()(model).modified
    assert nodes(ir.to_proto(model)) == ["h = Relu(x)", "y = Exp(h)"]
