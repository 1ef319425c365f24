"""Gathers in front of layers that read a wide input."""

import onnx_ir as ir
import pytest
from layout_helpers import attribute, channels_of
from pass_helpers import apply, initializers, nodes, normal, parse, properties, text

from crespr_onnx.passes.insert_gathers import InsertGathers


def dense(call: str, given: str = "float[N, 6] x", first: str = "", out: str = "A"):
    return parse(
        f"g ({given}) => (float[N, {out}] y) {{{first} a = {call} y = MatMul(a, v) }}",
        w=normal(0, 6, 4),
        v=normal(1, 4, 2),
    )


def test_a_gemm_reads_its_input_through_a_list():
    before = dense("Gemm(x, w)")
    after = apply(InsertGathers(channels_of(before), min_channels=6), before)
    assert nodes(after) == text("""
        gemm_0/Gather/out = Gather(x, gemm_0/selection)
        a = Gemm(gemm_0/Gather/out, w)
        y = MatMul(a, v)
    """)
    assert initializers(after)["gemm_0/selection"].tolist() == [0, 1, 2, 3, 4, 5]
    assert attribute(after, "gemm_0/Gather", "axis") == 1
    assert properties(after, ["gemm_0/Gather"]) == [{"crespr.selection": "gemm_0"}]


def test_what_the_list_picks_can_be_clustered():
    before = dense("Gemm(x, w)")
    graph = channels_of(before)
    assert graph.is_frozen(graph.edges[0].in_channels)
    after = channels_of(apply(InsertGathers(graph, min_channels=6), before))
    assert not after.is_frozen(after.edges[0].in_channels)
    model = ir.from_proto(before)
    InsertGathers(graph, min_channels=6)(model)
    assert not InsertGathers(after, min_channels=6)(model).modified


def test_a_matmul_gathers_its_last_axis():
    before = dense("MatMul(x, w)", "float[N, 5, 6] x", out="A, B")
    after = apply(InsertGathers(channels_of(before), min_channels=2), before)
    assert attribute(after, "matmul_0/Gather", "axis") == 2


def test_values_without_channels_are_gathered_too():
    before = dense("Gemm(f, w)", "float[N, 2, 3] x", "f = Flatten(x)")
    after = apply(InsertGathers(channels_of(before), min_channels=6), before)
    assert nodes(after)[1:3] == text("""
        gemm_1/Gather/out = Gather(f, gemm_1/selection)
        a = Gemm(gemm_1/Gather/out, w)
    """)


def test_every_reader_has_a_list_of_its_own():
    before = parse(
        """g (float[N, 6] x) => (float[N, 2] y) {
            a = Gemm(x, w) b = Gemm(x, w2) c = Add(a, b) y = Gemm(c, v)
        }""",
        w=normal(0, 6, 4), w2=normal(1, 6, 4), v=normal(2, 4, 2),
    )  # fmt: skip
    after = apply(InsertGathers(channels_of(before), min_channels=6), before)
    assert [n for n in nodes(after) if "Gather(" in n] == text("""
        gemm_0/Gather/out = Gather(x, gemm_0/selection)
        gemm_1/Gather/out = Gather(x, gemm_1/selection)
    """)


@pytest.mark.parametrize("least", [7, 32])
def test_narrow_inputs_stay_shared(least: int):
    before = dense("Gemm(x, w)")
    apply(InsertGathers(channels_of(before), min_channels=least), before, modified=False)


def test_channels_that_are_free_need_no_list():
    before = parse(
        "g (float[N, 3] x) => (float[N, 2] y) { a = Gemm(x, w) b = Gemm(a, v) y = Gemm(b, u) }",
        w=normal(0, 3, 8), v=normal(1, 8, 3), u=normal(2, 3, 2),
    )  # fmt: skip
    apply(InsertGathers(channels_of(before), min_channels=4), before, modified=False)


def test_convolutions_stay_as_they_are():
    before = parse(
        "g (float[N, 4, 3, 3] x) => (float[N, 4, 3, 3] y) { a = Conv(x, w) y = Conv(a, w) }",
        w=normal(0, 4, 4, 1, 1),
    )
    apply(InsertGathers(channels_of(before), min_channels=2), before, modified=False)
