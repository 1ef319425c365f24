import numpy as np
import onnx_ir as ir
import pytest
from pass_helpers import apply, initializers, mark, nodes, normal, parse, properties, text
from split_models import batched, batched_arrays, mark_batched, two_convs

from crespr_onnx.passes.separate_groups import SeparateGroups


def one_conv(op: str = "Conv", weight: tuple[int, ...] = (6, 2, 3, 3), opset: int = 17):
    model = parse(
        f"""
        g (float[N, 4, 5, 5] x) => (float[N, C, H, W] y) {{
            z = Relu(x)
            y = {op}<group = 2, strides = [2, 2]>(z, w, b)
        }}""",
        opset,
        w=normal(0, *weight),
        b=normal(1, 6),
    )
    model.graph.node[1].name = "stage/conv"
    mark(model, "stage/conv", clusters=2)
    return model


def test_conv():
    after = apply(SeparateGroups(), one_conv())
    assert nodes(after) == text("""
        z = Relu(x)
        stage/conv/Split/out_00, stage/conv/Split/out_01 = Split(z, stage/conv/sizes)
        stage/conv/module_00/output = Conv(stage/conv/Split/out_00, w/module_00, b/module_00)
        stage/conv/module_01/output = Conv(stage/conv/Split/out_01, w/module_01, b/module_01)
        y = Concat(stage/conv/module_00/output, stage/conv/module_01/output)
    """)
    assert [n.name for n in after.graph.node[1:]] == [
        "stage/conv/Split",
        "stage/conv/module_00",
        "stage/conv/module_01",
        "stage/conv/Concat",
    ]
    assert properties(after, ["stage/conv/module_01"]) == [
        {"crespr.layer": "stage/conv", "crespr.module": "1"}
    ]
    arrays = initializers(after)
    assert arrays["w/module_01"].shape == (3, 2, 3, 3)
    np.testing.assert_array_equal(arrays["stage/conv/sizes"], [2, 2])
    assert "w" not in arrays


def test_conv_transpose():
    after = apply(SeparateGroups(), one_conv("ConvTranspose", (4, 3, 3, 3)))
    assert [n.op_type for n in after.graph.node][1:4] == ["Split", "ConvTranspose", "ConvTranspose"]


def test_old_opsets_keep_the_sizes_in_an_attribute():
    after = apply(SeparateGroups(), one_conv(opset=11))
    (split,) = [n for n in after.graph.node if n.op_type == "Split"]
    assert list(split.input) == ["z"]


@pytest.mark.parametrize("bias", [True, False])
def test_batched_matmul(bias: bool):
    body, arrays = batched("fc", "x", "y"), batched_arrays("fc", 2, 3, 4)
    if not bias:
        body = body.replace("fc_s = Add(fc_p, fc_b)", "").replace("(fc_s)", "(fc_p)")
        del arrays["fc_b"]
    before = parse(f"g (float[N, 6] x) => (float[N, 8] y) {{ {body} }}", **arrays)
    mark_batched(before, 2)
    after = apply(SeparateGroups(), before)
    tail = [f", fc_b/module_0{k}" if bias else "" for k in range(2)]
    assert nodes(after) == text(f"""
        fc/Split/out_00, fc/Split/out_01 = Split(x, fc/sizes)
        fc/module_00/output = Gemm(fc/Split/out_00, fc_w/module_00{tail[0]})
        fc/module_01/output = Gemm(fc/Split/out_01, fc_w/module_01{tail[1]})
        y = Concat(fc/module_00/output, fc/module_01/output)
    """)
    parameters = [n for n in initializers(after) if n != "fc/sizes"]
    assert len(parameters) == (4 if bias else 2)


def test_layers_can_be_chosen():
    after = apply(SeparateGroups(frozenset({"conv2"})), two_convs())
    assert [n.op_type for n in after.graph.node] == [
        "Conv", "Relu", "Split", "Conv", "Conv", "Concat",
    ]  # fmt: skip


def test_unmarked_groups_and_inner_values_that_are_read_stay():
    model = two_convs()
    for node in model.graph.node:
        del node.metadata_props[:]
    apply(SeparateGroups(), model, modified=False)
    body = batched("fc", "x", "y")
    before = parse(
        f"g (float[N, 6] x) => (float[N, 8] y, float[2, N, 4] fc_p) {{ {body} }}",
        **batched_arrays("fc", 2, 3, 4),
    )
    mark_batched(before, 2)
    apply(SeparateGroups(), before, modified=False)


def test_names_that_are_taken_get_a_number():
    before = one_conv()
    before.graph.node[0].output[0] = "stage/conv/module_00"
    before.graph.node[1].input[0] = "stage/conv/module_00"
    after = apply(SeparateGroups(), before)
    assert [n.name for n in after.graph.node][2:4] == [
        "stage/conv/module_00_1",
        "stage/conv/module_01",
    ]


def test_a_weight_that_another_node_reads_stays_for_it():
    before = parse(
        """
        g (float[N, 4, 5, 5] x) => (float[N, C, H, W] y, float[N, C, H, W] r) {
            y = Conv<group = 2>(x, w)
            r = Conv<group = 2>(x, w)
        }""",
        w=normal(0, 6, 2, 3, 3),
    )
    mark(before, "conv_0", clusters=2)
    after = apply(SeparateGroups(), before)
    assert "w" in initializers(after)
    assert ir.from_proto(after).graph[-1].op_type == "Conv"


def test_layers_that_share_a_weight_share_its_modules():
    before = parse(
        """
        g (float[N, 4, 5, 5] x) => (float[N, C, H, W] y) {
            a = Conv<group = 2>(x, w, b)
            y = Conv<group = 2>(a, w)
        }""",
        w=normal(0, 4, 2, 1, 1),
        b=normal(1, 4),
    )
    mark(before, "conv_0", clusters=2)
    mark(before, "conv_1", clusters=2)
    after = apply(SeparateGroups(), before)
    weights = [n.input[1] for n in after.graph.node if n.op_type == "Conv"]
    assert weights == ["w/module_00", "w/module_01"] * 2
    assert "w" not in initializers(after)
