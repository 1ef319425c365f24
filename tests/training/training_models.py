"""What the tests of training share: small models from ONNX text, their channels, and their runs."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray

from crespr_onnx.data import Samples
from crespr_onnx.graph.channels import find_channels
from crespr_onnx.layout import ChannelGraph, ChannelGroup, WeightedEdge
from crespr_onnx.stages.prepare import infer_shapes
from crespr_onnx.training.channel_edges import ChannelEdge, channel_edges
from crespr_onnx.training.lesson import Lesson
from crespr_onnx.training.objective import Objective

MLP = """mlp (float[N, 6] x) => (float[N, 3] y) {
    h1 = Gemm <transB = 1> (x, w1, b1)
    a1 = Relu (h1)
    h2 = MatMul (a1, w2)
    s2 = Add (h2, b2)
    a2 = Relu (s2)
    y = Gemm (a2, w3, b3)
}"""
"""Gemm with transB, MatMul with its Add, Gemm without transB."""

CNN = """cnn (float[N, 1, 6, 6] x) => (float[N, 3] y) {
    c1 = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, w1, b1)
    n1 = BatchNormalization (c1, scale, shift, mean, var)
    a1 = Relu (n1)
    c2 = Conv <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]> (a1, w2)
    a2 = Relu (c2)
    f = Flatten (a2)
    y = MatMul (f, w3)
}"""
"""Convolutions, BatchNorm, and a Flatten, which repeats channels over positions."""


def normal(seed: int, *shape: int) -> NDArray[np.float32]:
    """Random numbers of a fixed seed."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def parse(text: str, opset: int = 17, **arrays: NDArray[Any]) -> ir.Model:
    """A model from the text of its graph and its initializers, nodes named op_0, op_1, ..."""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> {text}')
    for i, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type.lower()}_{i}"
    for name, array in arrays.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    onnx.checker.check_model(model)
    parsed = ir.from_proto(model)
    infer_shapes(parsed)
    return parsed


def mlp(widths: tuple[int, int] = (8, 12)) -> ir.Model:
    """The MLP with random weights."""
    a, b = widths
    arrays = {
        "w1": normal(1, a, 6), "b1": normal(2, a), "w2": normal(3, a, b), "b2": normal(4, b),
        "w3": normal(5, b, 3), "b3": normal(6, 3),
    }  # fmt: skip
    return parse(MLP, **arrays)


def cnn(widths: tuple[int, int] = (4, 6)) -> ir.Model:
    """The CNN with random weights."""
    a, b = widths
    arrays = {
        "w1": normal(1, a, 1, 3, 3), "b1": normal(2, a), "scale": 1 + 0.1 * normal(3, a),
        "shift": normal(4, a), "mean": normal(5, a), "var": np.abs(normal(6, a)) + 0.5,
        "w2": 0.3 * normal(7, b, a, 3, 3), "w3": 0.3 * normal(8, 9 * b, 3),
    }  # fmt: skip
    return parse(CNN, **arrays)


def channels(model: ir.Model) -> ChannelGraph:
    """The channels of a model that the analysis understands wholly."""
    graph, obstacles = find_channels(model)
    assert obstacles == ()
    return graph


def free_groups(graph: ChannelGraph) -> list[int]:
    """Indices of the groups that may be clustered."""
    return [i for i, group in enumerate(graph.groups) if group.frozen is None]


def array(model: ir.Model, name: str) -> NDArray[Any]:
    """An initializer's values."""
    value = model.graph.initializers[name].const_value
    assert value is not None
    return value.numpy().copy()


def run(model: ir.Model, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """First output in ONNX Runtime, without its optimisations."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(
        ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def lesson_for(
    model: ir.Model,
    x: NDArray[np.float32],
    labels: Sequence[int] | NDArray[np.int64] | None = None,
    **options: Any,
) -> Lesson:
    """A classifier's lesson with the model's own answers as targets."""
    known = None if labels is None else np.asarray(labels, dtype=np.int64)
    name = model.graph.inputs[0].name or ""
    return Lesson(Samples({name: x}, known), (name,), (run(model, x),), Objective(True, **options))


def chain(sizes: Sequence[int], op: str = "Gemm", kernel: int = 1, opaque: int = 0) -> ChannelGraph:
    """The channels of layers in a row, the first and last group frozen; edges are e0, e1, ..."""
    ends = np.cumsum([0, *sizes])
    ids = [np.arange(start, end) for start, end in pairwise(ends)]
    last = len(sizes) - 1
    return ChannelGraph(
        groups=tuple(
            ChannelGroup(f"g{i}", c, "an end" if i in (0, last) else None)
            for i, c in enumerate(ids)
        ),
        edges=tuple(
            WeightedEdge(f"e{i}", op, f"w{i}", 1, 0, ids[i], ids[i + 1], kernel, 1)
            for i in range(last)
        ),
        values={},
        constants={},
        moves={},
        opaque_weights=opaque,
    )


def importances(graph: ChannelGraph, seed: int) -> tuple[ChannelEdge, ...]:
    """Random importances of all connections, of very different size."""
    rng = np.random.default_rng(seed)
    return channel_edges(
        graph,
        {
            e.name: np.exp(2 * rng.normal(size=(len(e.out_channels), len(e.in_channels))))
            for e in graph.edges
        },
    )
