"""Random valid graphs: the analysis always ends with a channel graph that holds together."""

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from hypothesis import given, settings
from hypothesis import strategies as st
from onnxruntime.capi import onnxruntime_pybind11_state as state

from crespr_onnx.graph.accounting import stored_weights
from crespr_onnx.graph.channels import find_channels
from crespr_onnx.layout import ChannelGraph
from crespr_onnx.stages.prepare import infer_shapes

REFUSALS = (state.Fail, state.InvalidArgument, state.InvalidGraph, state.NotImplemented)

# Everything is 4 long, so that most operators accept most values in most roles.
SHAPES = [[], [4], [1, 4], [4, 4], [4, 1, 1], [4, 4, 4], [4, 1, 1, 1], [4, 4, 1, 1], [4, 2, 1, 1]]
INTEGERS = [[0], [1], [-1], [2, 3], [2, 2], [0, -1], [0, 4, -1], [0, 0, 2, 2, -1], [4, 2, -1]]
PADS = [[0, 0, 0, 0, 0, 1, 0, 0], [0, 0, 1, 1], [0, 1, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0, 0, 1]]
SCALES = [[1, 1, 2, 2], [1, 2, 1, 1], [1, 1, 2]]

# By operator: what each input is (v: computed, f: float, b: float of rank 1, i: integers, p: pads,
# s: scales, -: none), how many may be left out at the end, and choices for attributes.
OPERATORS: dict[str, tuple[str, int, dict[str, list[Any]]]] = {
    "Relu": ("v", 0, {}), "Clip": ("vff", 2, {}), "Dropout": ("v", 0, {}), "Hardmax": ("v", 0, {}),
    "Add": ("vf", 0, {}), "Mul": ("fv", 0, {}), "Max": ("vff", 1, {}), "PRelu": ("vb", 0, {}),
    "Softmax": ("v", 0, {"axis": [-1, 0, 1, 2]}),
    "BatchNormalization": ("vbbbb", 0, {}),
    "Conv": ("vfb", 1, {"group": [1, 2, 4]}), "ConvTranspose": ("vfb", 1, {"group": [1, 2]}),
    "Gemm": ("fff", 1, {"transA": [0, 1], "transB": [0, 1]}), "MatMul": ("ff", 0, {}),
    "MaxPool": ("v", 0, {"kernel_shape": [[1, 1], [2]]}), "GlobalAveragePool": ("v", 0, {}),
    "ReduceSum": ("vi", 1, {"keepdims": [0, 1]}),
    "ReduceMax": ("v", 0, {"axes": [[1], [-1], [2, 3]], "keepdims": [0, 1]}),
    "Concat": ("vff", 1, {"axis": [0, 1, -1]}), "Gather": ("fi", 0, {"axis": [0, 1, -1]}),
    "Split": ("vi", 1, {"axis": [0, 1, -1]}), "Slice": ("viiii", 2, {}), "Pad": ("vpf", 1, {}),
    "Transpose": ("v", 0, {"perm": [[1, 0], [0, 2, 1], [0, 3, 1, 2], [1, 0, 2, 3]]}),
    "Flatten": ("v", 0, {"axis": [0, 1, 2]}), "Reshape": ("vi", 0, {}),
    "Squeeze": ("vi", 1, {}), "Unsqueeze": ("vi", 0, {}), "Shape": ("v", 0, {}),
    "Resize": ("v-s", 0, {}), "Identity": ("f", 0, {}),
}  # fmt: skip
OUTPUTS = {"Split": 2, "Dropout": 2, "MaxPool": 2}
LAYERS = "a = Conv(x, w) b = Gemm(y, v) c = MatMul(z, v)"


@st.composite
def models(draw: st.DrawFn) -> onnx.ModelProto:
    """Three layers, and operators on whatever there is, computed or constant or given."""
    one = st.sampled_from
    pools: dict[str, list[str]] = {"v": [*"abcaxy"], "-": [""], "b": ["f1"]}
    arrays: dict[str, np.ndarray[Any, Any]] = {"given": np.ones((4, 4), np.float32)}
    kinds = [("f", SHAPES), ("i", INTEGERS), ("p", PADS), ("s", SCALES)]
    for kind, entries in kinds:
        for i, entry in enumerate(entries):
            array = np.ones(entry) if kind == "f" else np.array(entry)
            arrays[f"{kind}{i}"] = array.astype(np.int64 if kind in "ip" else np.float32)
        pools[kind] = [n for n in arrays if n.startswith(kind)]
    proto = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : {draw(one([7, 10, 11, 13, 18]))}]> '
        f"g (float[{draw(one(['N', '4']))}, 4, 4, 4] x, float[N, 4] y, float[4, 4, 4] z, "
        f"float[4, 4] given) => () {{ {LAYERS} }}"
    )
    arrays |= {"w": np.ones((4, 4, 1, 1), np.float32), "v": np.ones((4, 4), np.float32)}
    for name, array in arrays.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    for i in range(draw(st.integers(3, 10))):
        op = draw(one(list(OPERATORS)))
        kinds, optional, choices = OPERATORS[op]
        inputs = [
            draw(one(pools[kind] + (pools["v"] if kind == "f" else [])))
            for kind in kinds[: len(kinds) - draw(st.integers(0, optional))]
        ]
        attributes = {n: draw(one(c)) for n, c in choices.items() if draw(st.booleans())}
        outputs = [f"o{i}_{j}" for j in range(draw(st.integers(1, OUTPUTS.get(op, 1))))]
        proto.graph.node.append(onnx.helper.make_node(op, inputs, outputs, f"n{i}", **attributes))
        pools["v"] += outputs
    ends = draw(st.sets(one([*pools["v"][6:], "a", "w", "f1"]), max_size=3))
    proto.graph.output.extend(onnx.helper.make_empty_tensor_value_info(v) for v in sorted(ends))
    return proto


def valid_part(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without the nodes that ONNX Runtime refuses or cannot run, and what follows from them."""
    kept = onnx.ModelProto()
    kept.CopyFrom(model)
    del kept.graph.node[:], kept.graph.output[:]
    values = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    for given_input in model.graph.input:
        shape = [d.dim_value or 4 for d in given_input.type.tensor_type.shape.dim]
        values[given_input.name] = np.ones(shape, np.float32)
    for node in model.graph.node:
        if values.keys() >= set(node.input) - {""}:
            outputs = run_node(node, values, model.opset_import[0].version)
            if outputs is not None:
                kept.graph.node.append(node)
                values |= zip(node.output, outputs, strict=True)
    kept.graph.output.extend(v for v in model.graph.output if v.name in values)
    return kept


def run_node(
    node: onnx.NodeProto, values: dict[str, np.ndarray[Any, Any]], opset: int
) -> list[np.ndarray[Any, Any]] | None:
    """What a node computes, or None if it cannot."""
    feeds = {name: values[name] for name in node.input if name}
    info = onnx.helper.make_tensor_value_info
    heads = [
        info(n, onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in feeds.items()
    ]
    ends = [onnx.helper.make_empty_tensor_value_info(name) for name in node.output]
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "g", heads, ends),
        opset_imports=[onnx.helper.make_opsetid("", opset)],
        ir_version=8,
    )
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return session.run(None, feeds)
    except (*REFUSALS, state.RuntimeException):
        return None


def check(graph: ChannelGraph, model: ir.Model) -> None:
    """What must hold for every analysis."""
    members = np.concatenate([np.zeros(0, np.int64), *(g.channels for g in graph.groups)])
    assert sorted(members.tolist()) == list(range(graph.n_channels))
    lengths = {}
    for node in model.graph:
        for value in node.outputs:
            if value.name in graph.values and value.shape is not None:
                axis = graph.values[value.name]
                lengths[value.name] = (value.shape[axis.axis], len(axis.channels))
    assert all(isinstance(d, int) and d == n for d, n in lengths.values()), lengths
    for name, axes in graph.constants.items():
        shape = model.graph.initializers[name].shape
        assert [shape[a.axis] for a in axes] == [len(a.channels) for a in axes]
    for value in model.graph.outputs:
        if value.name in graph.values:
            assert graph.is_frozen(graph.values[value.name].channels)
    for edge in graph.edges:
        shape = model.graph.initializers[edge.weight].shape
        assert edge.weights == np.prod(shape)
    assert graph.weights >= stored_weights(model)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(models())
def test_no_valid_graph_is_too_odd(proto: onnx.ModelProto):
    model = ir.from_proto(valid_part(proto))
    infer_shapes(model)
    graph, obstacles = find_channels(model)
    assert all(o.reason for o in obstacles)
    check(graph, model)
