import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pass_helpers import apply, initializers, mark, nodes, normal, parse, properties, text
from split_models import batched, batched_arrays, mark_batched, two_convs

from crespr_onnx.passes.merge_groups import MergeGroups


def selected_conv(op: str = "Conv", reads: tuple[int, ...] = (3, 0, 1, 3)) -> onnx.ModelProto:
    """A layer of two clusters that read two of four channels each."""
    weight = (6, 2, 3, 3) if op == "Conv" else (4, 3, 3, 3)
    model = parse(
        f"""
        g (float[N, 4, 5, 5] x) => (float[N, C, H, W] y) {{
            s = Gather<axis = 1>(x, reads)
            y = {op}<group = 2, strides = [2, 2]>(s, w, b)
        }}""",
        w=normal(0, *weight),
        b=normal(1, 6),
        reads=np.array(reads, np.int32),
    )
    mark(model, "gather_0", selection="conv")
    model.graph.node[1].name = "conv"
    mark(model, "conv", clusters=2, layer="conv")
    return model


def selected_matmul(reads: tuple[int, ...], bias: bool = True) -> onnx.ModelProto:
    """A batched layer of two clusters that read three of six channels each."""
    body, arrays = batched("fc", "s", "y"), batched_arrays("fc", 2, 3, 4)
    if not bias:
        body = body.replace("fc_s = Add(fc_p, fc_b)", "").replace("(fc_s)", "(fc_p)")
        del arrays["fc_b"]
    model = parse(
        f"g (float[N, 6] x) => (float[N, 8] y) {{ s = Gather<axis = 1>(x, reads) {body} }}",
        reads=np.array(reads, np.int32),
        **arrays,
    )
    mark(model, "gather_0", selection="fc")
    mark_batched(model, 2)
    return model


def test_conv():
    after = apply(MergeGroups(), selected_conv())
    assert nodes(after) == text("y = Conv(x, w/dense, b)")
    assert [a.i for a in after.graph.node[0].attribute if a.name == "group"] == [1]
    assert properties(after, ["conv"]) == [{"crespr.layer": "conv"}]
    arrays = initializers(after)
    assert sorted(arrays) == ["b", "w/dense"]
    blocks, dense = normal(0, 6, 2, 3, 3), np.zeros((6, 4, 3, 3), np.float32)
    dense[:3, [3, 0]], dense[3:, [1, 3]] = blocks[:3], blocks[3:]
    np.testing.assert_array_equal(arrays["w/dense"], dense)


def test_conv_transpose():
    after = apply(MergeGroups(), selected_conv("ConvTranspose"))
    assert nodes(after) == text("y = ConvTranspose(x, w/dense, b)")
    assert initializers(after)["w/dense"].shape == (4, 6, 3, 3)


@pytest.mark.parametrize("bias", [True, False])
def test_batched_matmul(bias: bool):
    after = apply(MergeGroups(), selected_matmul((5, 0, 1, 1, 2, 5), bias))
    expected = "y = Gemm(x, fc_w/dense, fc/bias)" if bias else "y = MatMul(x, fc_w/dense)"
    assert nodes(after) == text(expected)
    assert after.graph.node[0].name == "fc"
    dense = np.zeros((6, 8), np.float32)
    dense[[5, 0, 1], :4], dense[[1, 2, 5], 4:] = normal(0, 2, 3, 4)
    np.testing.assert_array_equal(initializers(after)["fc_w/dense"], dense)


def test_further_axes_stay():
    model = parse(
        """
        g (float[N, 5, 6] x) => (float[N, 5, 8] y) {
            a = Reshape(x, split)
            b = Transpose<perm = [0, 2, 1, 3]>(a)
            fc_p = MatMul(b, w)
            c = Add(fc_p, bias)
            d = Transpose<perm = [0, 2, 1, 3]>(c)
            y = Reshape(d, join)
        }""",
        split=np.array([0, 0, 2, 3]),
        join=np.array([0, 0, 8]),
        w=normal(0, 2, 3, 4),
        bias=normal(1, 2, 1, 4),
    )
    mark_batched(model, 2)
    after = apply(MergeGroups(), model)
    assert nodes(after) == text("""
        fc/out = MatMul(x, w/dense)
        y = Add(fc/out, fc/bias)
    """)


def test_a_selection_that_others_read_stays():
    before = selected_conv()
    before.graph.output.append(onnx.helper.make_tensor_value_info("s", 1, ["N", 4, 5, 5]))
    after = apply(MergeGroups(), before)
    assert nodes(after) == text("""
        s = Gather(x, reads)
        y = Conv(s, w/dense, b)
    """)


def test_without_a_selection_the_blocks_lie_on_the_diagonal():
    after = apply(MergeGroups(), two_convs())
    assert nodes(after) == text("""
        a = Conv(x, w1/dense, b1)
        r = Relu(a)
        y = Conv(r, w2/dense)
    """)
    dense, blocks = initializers(after)["w2/dense"], normal(2, 4, 2, 1, 1)
    np.testing.assert_array_equal(dense[:2, :2], blocks[:2])
    np.testing.assert_array_equal(dense[2:, 2:], blocks[2:])
    assert np.count_nonzero(dense) == blocks.size


def test_layers_can_be_chosen():
    after = apply(MergeGroups(frozenset({"conv2"})), two_convs())
    assert nodes(after)[0] == "a = Conv(x, w1, b1)"
    apply(MergeGroups(frozenset()), two_convs(), modified=False)


def test_layers_that_share_a_weight_share_the_dense_one_if_they_read_alike():
    before = parse(
        """
        g (float[N, 4, 5, 5] x) => (float[N, 4, 5, 5] y) {
            a = Conv<group = 2>(x, w)
            b = Conv<group = 2>(a, w)
            s = Gather<axis = 1>(b, reads)
            y = Conv<group = 2>(s, w)
        }""",
        w=normal(0, 4, 2, 1, 1),
        reads=np.array([3, 2, 1, 0], np.int32),
    )
    mark(before, "gather_2", selection="conv_3")
    for name in ("conv_0", "conv_1", "conv_3"):
        mark(before, name, clusters=2, layer=name)
    after = apply(MergeGroups(), before)
    assert [n.input[1] for n in after.graph.node] == ["w/dense", "w/dense", "w/dense_1"]


def test_unmarked_groups_and_inner_values_that_are_read_stay():
    model = two_convs()
    for node in model.graph.node:
        del node.metadata_props[:]
    apply(MergeGroups(), model, modified=False)
    body = batched("fc", "x", "y")
    before = parse(
        f"g (float[N, 6] x) => (float[N, 8] y, float[2, N, 4] fc_p) {{ {body} }}",
        **batched_arrays("fc", 2, 3, 4),
    )
    mark_batched(before, 2)
    apply(MergeGroups(), before, modified=False)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.lists(st.permutations(range(6)), min_size=2, max_size=2), st.booleans())
def test_whatever_clusters_read_the_outputs_stay(orders: list[list[int]], bias: bool):
    reads = tuple(channel for order in orders for channel in order[:3])
    apply(MergeGroups(), selected_matmul(reads, bias))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.lists(st.permutations(range(4)), min_size=2, max_size=2),
    st.sampled_from(["Conv", "ConvTranspose"]),
)
def test_whatever_convolutions_read_the_outputs_stay(orders: list[list[int]], op: str):
    reads = tuple(channel for order in orders for channel in order[:2])
    apply(MergeGroups(), selected_conv(op, reads))
