import onnx
import pytest
from pass_helpers import apply, mark, nodes, normal, ops, parse, properties, text
from split_models import two_convs

from crespr_onnx.passes.cancel_concat_split import CancelConcatSplit
from crespr_onnx.passes.separate_groups import SeparateGroups


def separated(model: onnx.ModelProto) -> onnx.ModelProto:
    return apply(SeparateGroups(), model)


def test_two_layers_become_two_branches():
    after = apply(CancelConcatSplit(), separated(two_convs()))
    assert nodes(after) == text("""
        conv1/Split/out_00, conv1/Split/out_01 = Split(x, conv1/sizes)
        conv1/module_00/output = Conv(conv1/Split/out_00, w1/module_00, b1/module_00)
        conv1/module_01/output = Conv(conv1/Split/out_01, w1/module_01, b1/module_01)
        r/module_00 = Relu(conv1/module_00/output)
        r/module_01 = Relu(conv1/module_01/output)
        conv2/module_00/output = Conv(r/module_00, w2/module_00)
        conv2/module_01/output = Conv(r/module_01, w2/module_01)
        y = Concat(conv2/module_00/output, conv2/module_01/output)
    """)
    assert properties(after, ["relu_1/module_01"]) == [{"crespr.module": "1"}]


@pytest.mark.parametrize(
    "between",
    [
        "r = LeakyRelu<alpha = 0.2>(a)",
        "r = Clip(a, low, high)",
        "r = BatchNormalization(a, vector, vector, vector, vector)",
        "r = InstanceNormalization(a, vector, vector)",
        "r = MaxPool<kernel_shape = [2, 2]>(a)",
        "r = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(a)",
        "r = GlobalAveragePool(a)",
        "r = ReduceMean<axes = [-1, -2]>(a)",
        "r = Add(a, column)",
        "r = Mul(column, a)",
        "r = Mul(a, row)",
        "r = Mul(a, high)",
        "r = PRelu(a, column)",
        "r = Pad(a, spatial_pads)",
        "r = Slice(a, starts, ends, axes23)",
        "r = Slice(a, starts, ends, axes_last)",
        "r = Conv<group = 4, pads = [1, 1, 1, 1]>(a, depthwise, bias4)",
        'r = Resize<mode = "nearest">(a, , scales)',
        "g1 = GlobalAveragePool(a)  s = Sigmoid(g1)  r = Mul(a, s)",
        "s = Sigmoid(a)  r = Mul(s, a)",
        "m = ReduceMax<axes = [2, 3], keepdims = 0>(a)  r = Unsqueeze(m, axes23)",
        "r = Dropout(a)",
    ],
)
def test_operators_that_keep_channels_apart(between: str):
    before = separated(two_convs(between))
    after = apply(CancelConcatSplit(), before)
    assert ops(after).count("Split") == 1
    assert ops(after).count("Concat") == 1
    assert ops(after)[-1] == "Concat"


@pytest.mark.parametrize(
    "between",
    [
        "r = Softmax<axis = 1>(a)",
        "r = LRN<size = 3>(a)",
        "r = Transpose<perm = [0, 1, 3, 2]>(x)",
        "r = Conv(a, dense)",
    ],
)
def test_operators_that_do_not(between: str):
    apply(CancelConcatSplit(), separated(two_convs(between)), modified=False)


def test_an_input_without_channels_serves_all_parts():
    before = separated(two_convs("n = ReduceMean<axes = [1]>(a)  r = Sub(a, n)"))
    after = nodes(apply(CancelConcatSplit(), before))
    assert "r/module_01 = Sub(conv1/module_01/output, n)" in after
    assert "a = Concat(conv1/module_00/output, conv1/module_01/output)" in after


def test_the_parts_of_a_value_that_is_split_anyway_are_its_split():
    before = separated(two_convs("r = Add(a, x)"))
    after = nodes(apply(CancelConcatSplit(), before))
    assert "r/module_01 = Add(conv1/module_01/output, conv1/Split/out_01)" in after


@pytest.mark.parametrize(
    ("flatten", "target"),
    [
        ("Flatten(a)", None),
        ("Reshape(a, target)", [-1, 16]),
        ("Reshape(a, target)", [0, 16]),
        ("Reshape(a, target)", [0, -1]),
    ],
)
def test_from_maps_to_vectors(flatten: str, target: list[int] | None):
    model = parse(
        f"""
        g (float[N, 4, 6, 6] x) => (float[N, C] y) {{
            a = Conv<group = 2>(x, w1)
            f = {flatten}
            s0, s1 = Split<axis = 1>(f, sizes)
            p = Gemm(s0, v0)
            q = Gemm(s1, v1)
            y = Concat<axis = 1>(p, q)
        }}""",
        w1=normal(0, 4, 2, 5, 5),
        v0=normal(1, 8, 3),
        v1=normal(2, 8, 3),
        sizes=[8, 8],
        **({} if target is None else {"target": target}),
    )
    mark(model, "conv_0", clusters=2)
    after = apply(CancelConcatSplit(), separated(model))
    kind = "Flatten" if target is None else "Reshape"
    assert ops(after) == ["Split", "Conv", "Conv", kind, kind, "Gemm", "Gemm", "Concat"]


def test_a_reshape_that_cuts_channels_keeps_the_split():
    model = parse(
        """
        g (float[N, 4, 2, 2] x) => (float[N, 6] p, float[N, 10] q) {
            a = Conv<group = 2>(x, w1)
            f = Flatten(a)
            s0, s1 = Split<axis = 1>(f, sizes)
            p = Relu(s0)
            q = Relu(s1)
        }""",
        w1=normal(0, 4, 2, 1, 1),
        sizes=[6, 10],
    )
    mark(model, "conv_0", clusters=2)
    apply(CancelConcatSplit(), separated(model), modified=False)


RESIDUAL = """
    g (float[N, 4, 6, 6] x) => (float[N, C] y) {
        stem = Conv<pads = [1, 1, 1, 1]>(x, dense)
        r0 = Relu(stem)
        a1 = Conv<group = 2, pads = [1, 1, 1, 1]>(r0, w1)
        t1 = Relu(a1)
        a2 = Conv<group = 2, pads = [1, 1, 1, 1]>(t1, w2)
        s1 = Add(a2, r0)
        r1 = Relu(s1)
        a3 = Conv<group = 2, pads = [1, 1, 1, 1]>(r1, w3)
        s2 = Add(r1, a3)
        r2 = Relu(s2)
        v = GlobalAveragePool(r2)
        f = Flatten(v)
        y = Gemm(f, head)
    }"""


def residual() -> onnx.ModelProto:
    model = parse(
        RESIDUAL,
        dense=normal(0, 4, 4, 3, 3),
        head=normal(1, 4, 3),
        **{f"w{i}": normal(i + 1, 4, 2, 3, 3) for i in (1, 2, 3)},
    )
    for i, name in enumerate(["conv_2", "conv_4", "conv_7"], start=1):
        mark(model, name, clusters=2, layer=f"layer{i}")
    return separated(model)


def test_a_residual_stream_from_a_dense_stem_becomes_branches():
    after = apply(CancelConcatSplit(), residual())
    found = ops(after)
    assert found.count("Split") == 1
    assert found.count("Add") == 4
    assert nodes(after)[-2:] == text("""
        f = Concat(f/module_00, f/module_01)
        y = Gemm(f, head)
    """)
    assert found.count("Concat") == 1


def test_branches_end_where_a_dense_layer_needs_the_stream():
    model = residual()
    model.graph.output.append(
        onnx.helper.make_tensor_value_info("r1", onnx.TensorProto.FLOAT, ["N", 4, 6, 6])
    )
    after = apply(CancelConcatSplit(), model)
    assert "r1 = Concat(r1/module_00, r1/module_01)" in nodes(after)
    assert ops(after).count("Concat") == 2


def test_a_value_that_is_also_returned_is_joined_under_its_name():
    model = two_convs("r = Relu(a)")
    model.graph.output.append(
        onnx.helper.make_tensor_value_info("r", onnx.TensorProto.FLOAT, ["N", 4, 6, 6])
    )
    after = apply(CancelConcatSplit(), separated(model))
    assert "r = Concat(r/module_00, r/module_01)" in nodes(after)
    assert ops(after).count("Relu") == 2


def test_two_equal_splits_become_one():
    before = parse(
        """
        g (float[N, 4] x) => (float[N, 2] y, float[N, 2] z) {
            a, b = Split<axis = 1>(x, sizes)
            c, d = Split<axis = 1>(x, sizes)
            y = Sub(a, d)
            z = Sub(b, c)
        }""",
        sizes=[2, 2],
    )
    assert nodes(apply(CancelConcatSplit(), before)) == text("""
        a, b = Split(x, sizes)
        y = Sub(a, b)
        z = Sub(b, a)
    """)


@pytest.mark.parametrize(
    "split",
    [
        "b, c = Split<axis = 1>(a, uneven)",
        "b, c = Split<axis = 2>(a, even)",
        "b, c = Split<axis = -1>(a, even)",
    ],
)
def test_splits_of_other_sizes_and_axes_stay(split: str):
    arrays = {"uneven": [1, 3]} if "uneven" in split else {"even": [3, 3]}
    model = parse(
        f"""
        g (float[N, 4, 6, 6] x) => (float[N, C, H, W] b, float[N, C2, H2, W2] c) {{
            z = Conv<group = 2, pads = [1, 1, 1, 1]>(x, w1)
            a = Relu(z)
            {split}
        }}""",
        w1=normal(0, 4, 2, 3, 3),
        **arrays,
    )
    model.graph.node.extend(
        [onnx.helper.make_node("Relu", ["b"], ["b2"]), onnx.helper.make_node("Relu", ["c"], ["c2"])]
    )
    model.graph.output[0].name, model.graph.output[1].name = "b2", "c2"
    mark(model, "conv_0", clusters=2)
    apply(CancelConcatSplit(), separated(model), modified=False)


def test_a_marked_grouped_conv_keeps_its_form():
    model = two_convs("m = Conv<group = 2>(a, w2)  r = Relu(m)")
    (middle,) = [n for n in model.graph.node if n.output[0] == "m"]
    mark(model, middle.name, clusters=2, layer="middle")
    before = apply(SeparateGroups(frozenset({"conv1", "conv2"})), model)
    apply(CancelConcatSplit(), before, modified=False)


def test_a_model_without_splits():
    apply(CancelConcatSplit(), two_convs(), modified=False)


def test_a_deep_stream_needs_no_deep_stack():
    body = "\n".join(f"v{i + 1} = Relu(v{i})" for i in range(1500))
    model = parse(
        f"""
        g (float[N, 4, 2, 2] x) => (float[N, C, H, W] y) {{
            v0 = Conv<group = 2>(x, w1)
            {body}
            y = Conv<group = 2>(v1500, w2)
        }}""",
        w1=normal(0, 4, 2, 1, 1),
        w2=normal(1, 4, 2, 1, 1),
    )
    mark(model, "conv_0", clusters=2)
    mark(model, "conv_1501", clusters=2)
    after = apply(CancelConcatSplit(), separated(model))
    assert ops(after).count("Relu") == 3000
