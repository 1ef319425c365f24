"""Random chains of split layers: separating and cancelling never change what they compute."""

import onnx
import onnx_ir as ir
from hypothesis import given, settings
from hypothesis import strategies as st
from pass_helpers import assert_interface_kept, assert_same_outputs, mark, normal, parse
from split_models import batched, batched_arrays, mark_batched

from crespr_onnx.passes.cancel_concat_split import CancelConcatSplit
from crespr_onnx.passes.cancel_reshapes import CancelReshapes
from crespr_onnx.passes.cleanup import Cleanup
from crespr_onnx.passes.separate_groups import SeparateGroups

LINKS = ("split2", "split4", "dense", "relu", "add", "scale", "norm", "pool", "depthwise", "output")
CHANNELS = 4


def conv_chain(links: list[str], flat: bool) -> onnx.ModelProto:
    """A chain of links on [N, 4, 6, 6]; an add reads a value of two links ago as well."""
    body, outputs, arrays, marks = [], [], {}, {}
    history = ["x"]
    for i, link in enumerate(links):
        before, value = history[-1], f"v{i}"
        arrays |= {f"c{i}": normal(i, CHANNELS, 1, 1)}
        if link.startswith("split"):
            group = int(link[-1])
            arrays[f"w{i}"] = normal(i, CHANNELS, CHANNELS // group, 3, 3) * 0.3
            body.append(f"{value} = Conv<group = {group}, pads = [1, 1, 1, 1]>({before}, w{i})")
            marks[value] = group
        elif link == "dense":
            arrays[f"w{i}"] = normal(i, CHANNELS, CHANNELS, 1, 1)
            body.append(f"{value} = Conv({before}, w{i})")
        elif link == "depthwise":
            arrays[f"w{i}"] = normal(i, CHANNELS, 1, 3, 3)
            body.append(f"{value} = Conv<group = 4, pads = [1, 1, 1, 1]>({before}, w{i})")
        elif link == "norm":
            arrays |= {f"s{i}": normal(i, CHANNELS), f"p{i}": normal(i, CHANNELS) ** 2 + 0.5}
            body.append(f"{value} = BatchNormalization({before}, s{i}, s{i}, s{i}, p{i})")
        else:
            body.append(f"{value} = " + {
                "relu": f"Relu({before})",
                "add": f"Add({before}, {history[max(0, len(history) - 3)]})",
                "scale": f"Mul({before}, c{i})",
                "pool": f"MaxPool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>({before})",
                "output": f"Tanh({before})",
            }[link])  # fmt: skip
        if link == "output":
            outputs.append(value)
        history.append(value)
    if flat:
        arrays["tail"] = normal(99, CHANNELS * 36 // 2, 2)
        body.append(f"f = Flatten({history[-1]}) f0, f1 = Split<axis = 1>(f, halves)")
        body.append("g0 = Gemm(f0, tail) g1 = Gemm(f1, tail) last = Concat<axis = 1>(g0, g1)")
    else:
        body.append(f"last = Neg({history[-1]})")
    used = " ".join(body)
    results = ", ".join(f"float[N, C{i}, H{i}, W{i}] {v}" for i, v in enumerate(outputs))
    last = "float[N, 4] last" if flat else "float[N, C, H, W] last"
    model = parse(
        f"g (float[N, 4, 6, 6] x) => ({last}{', ' if results else ''}{results}) {{ {used} }}",
        **{name: a for name, a in arrays.items() if name in used},
        **({"halves": [72, 72]} if flat else {}),
    )
    for node in model.graph.node:
        if node.output[0] in marks:
            mark(model, node.name, clusters=marks[node.output[0]], layer=f"layer_{node.output[0]}")
    return model


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(LINKS), min_size=2, max_size=9), st.booleans())
def test_convolutions(links: list[str], flat: bool):
    before = conv_chain(links, flat)
    model = ir.from_proto(before)
    for pass_ in (SeparateGroups(), CancelConcatSplit(), Cleanup()):
        pass_(model)
        after = ir.to_proto(model)
        onnx.checker.check_model(after, full_check=True)
        assert not pass_(model).modified
    assert_interface_kept(before, after)
    assert_same_outputs(before, after)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.lists(
        st.sampled_from(["layer2", "layer3", "Relu", "Sigmoid", "Add", "output"]),
        min_size=2,
        max_size=8,
    ),
    st.booleans(),
)
def test_dense_layers(links: list[str], separate: bool):
    body, arrays, outputs, history = [], {}, [], ["x"]
    for i, link in enumerate(links):
        before, value = history[-1], f"v{i}"
        if link.startswith("layer"):
            k = int(link[-1])
            body.append(batched(f"l{i}_{k}", before, value))
            arrays |= batched_arrays(f"l{i}_{k}", k, 6 // k, 6 // k, i)
        elif link == "Add":
            body.append(f"{value} = Add({before}, {history[max(0, len(history) - 3)]})")
        else:
            body.append(f"{value} = {'Tanh' if link == 'output' else link}({before})")
        if link == "output":
            outputs.append(value)
        history.append(value)
    results = "".join(f", float[N, 6] {v}" for v in outputs)
    proto = parse(
        f"g (float[N, 6] x) => (float[N, 6] last{results}) "
        f"{{ {' '.join(body)} last = Neg({history[-1]}) }}",
        **arrays,
    )
    for k in (2, 3):
        part = [n for n in proto.graph.node if n.op_type == "MatMul" and f"_{k}_p" in n.output[0]]
        for node in part:
            node.name = node.output[0].removesuffix("_p")
            mark(proto, node.name, clusters=k, layer=node.name)
    model = ir.from_proto(proto)
    passes = (SeparateGroups(), CancelConcatSplit()) if separate else (CancelReshapes(),)
    for pass_ in (*passes, Cleanup()):
        pass_(model)
        after = ir.to_proto(model)
        onnx.checker.check_model(after, full_check=True)
        assert not pass_(model).modified
    assert_interface_kept(proto, after)
    assert_same_outputs(proto, after)
    if separate:
        assert not [n for n in after.graph.node if n.op_type == "MatMul"]


def test_the_names_of_marked_batched_layers():
    """What the two tests above rely on."""
    model = parse(
        f"g (float[N, 6] x) => (float[N, 6] y) {{ {batched('fc', 'x', 'y')} }}",
        **batched_arrays("fc", 2, 3, 3),
    )
    mark_batched(model, 2)
    (node,) = [n for n in model.graph.node if n.op_type == "MatMul"]
    assert node.name == "fc/matmul"
