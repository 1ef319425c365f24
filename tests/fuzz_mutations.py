"""Small real models, and what can go wrong with a model file."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from fuzz_bytes import BYTES, pick
from numpy.random import Generator
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

DIGITS = Path(__file__).parents[1] / "samples" / "digits" / "digits.onnx"
HUGE = (-1, 0, 1, 2**15, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1, -(2**63))
PATHS = (
    "../outside.bin", "/etc/passwd", "/dev/zero", "a/../../outside.bin", "link.bin", "w.bin",
    "\\\\host\\share", "C:\\w.bin", ".", "", "w.bin\0.txt", "x" * 5000, "/proc/self/mem",
)  # fmt: skip
OPS = [
    "Relu", "Conv", "Gemm", "MatMul", "Reshape", "Concat", "Split", "Loop", "Resize", "Expand",
    "Tile", "Pad", "Slice", "Range", "LSTM", "Einsum", "If", "Scan", "Shape", "Cast",
]  # fmt: skip

CONV = """
<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
net (float[n,3,8,8] image, int64[2] rest) => (float[n,4] scores, int64[2] sizes) {
  c = Conv<pads = [1,1,1,1], kernel_shape = [3,3]>(image, w1)
  b = BatchNormalization(c, scale, shift, mean, var)
  r = local.Act(b)
  d = Conv<group = 8, auto_pad = "SAME_UPPER", strides = [2,2]>(r, w2)
  s, t = Split<axis = 1>(d, halves)
  j = Concat<axis = 1>(t, s)
  k = Add(j, d)
  p = GlobalAveragePool(k)
  batch = Shape<start = 0, end = 1>(p)
  minus = Constant<value = int64[1] {-1}>()
  target = Concat<axis = 0>(batch, minus)
  f = Reshape(p, target)
  yes = Constant<value = bool {1}>()
  g = If(yes)<then_branch = a () => (float[n,8] u) { u = Relu(f) },
              else_branch = e () => (float[n,8] v) { v = Neg(f) }>
  scores = Gemm<transB = 1, alpha = 0.5>(g, w3, bias)
  sizes = Add(rest, rest)
}
<domain: "local", opset_import: ["" : 17]>
Act (x) => (y) { z = Sigmoid(x)  y = Mul(x, z) }
"""
TEXT = """
<ir_version: 9, opset_import: ["" : 20]>
net (int64[n,6] tokens) => (float[n,6,5] tags, float[n,6,8] hidden) {
  e = Gather<axis = 0>(table, tokens)
  q = MatMul(e, wq)
  k = MatMul(e, wk)
  kt = Transpose<perm = [0,2,1]>(k)
  a = MatMul(q, kt)
  root = Constant<value_float = 2.8>()
  n = Div(a, root)
  m = Softmax<axis = -1>(n)
  v = MatMul(m, e)
  l = LayerNormalization<axis = -1>(v, gain, offset)
  h = Gelu(l)
  hidden = Clip(h, low, high)
  tags = MatMul(hidden, wt)
}
"""


def seeds() -> list[ModelProto]:
    """A convolutional net with a function and a branch, a transformer, and the sample model."""
    rng = np.random.default_rng(0)

    def filled(text: str, **shapes: tuple[int, ...]) -> ModelProto:
        model = onnx.parser.parse_model(text)
        for name, shape in shapes.items():
            array = rng.random(shape, dtype=np.float32)
            model.graph.initializer.append(numpy_helper.from_array(array, name))
        return model

    conv = filled(
        CONV, w1=(8, 3, 3, 3), scale=(8,), shift=(8,), mean=(8,), var=(8,), w2=(8, 1, 3, 3),
        w3=(4, 8), bias=(4,),
    )  # fmt: skip
    conv.graph.initializer.append(numpy_helper.from_array(np.array([4, 4]), "halves"))
    text = filled(
        TEXT,
        table=(12, 8),
        wq=(8, 8),
        wk=(8, 8),
        gain=(8,),
        offset=(8,),
        low=(),
        high=(),
        wt=(8, 5),
    )
    for model in (conv, text):
        onnx.checker.check_model(model, full_check=True)
    return [conv, text, onnx.load(DIGITS)]


def mutate(model: ModelProto, rng: Generator) -> bytes:
    """The bytes of a model with one to three things wrong, and sometimes a byte."""
    model = ModelProto.FromString(model.SerializeToString())
    for _ in range(pick(rng, (1, 1, 1, 2, 3))):
        pick(rng, STRUCTURE)(model, rng)
    data = bytearray(model.SerializeToString())
    if rng.random() < 0.1:
        pick(rng, BYTES)(data, rng)
    return bytes(data)


def random_node(model: ModelProto, rng: Generator) -> NodeProto:
    graphs = [model.graph, *(a.g for n in model.graph.node for a in n.attribute if a.HasField("g"))]
    lists = [
        nodes for nodes in (*(g.node for g in graphs), *(f.node for f in model.functions)) if nodes
    ]
    return pick(rng, pick(rng, lists)) if lists else model.graph.node.add(op_type="Relu")


def random_tensor(model: ModelProto, rng: Generator) -> TensorProto:
    inner = [a.t for n in model.graph.node for a in n.attribute if a.HasField("t")]
    tensors = [*model.graph.initializer, *inner]
    return pick(rng, tensors) if tensors else model.graph.initializer.add(name="new")


def drop_node(model: ModelProto, rng: Generator) -> None:
    if model.graph.node:
        del model.graph.node[int(rng.integers(len(model.graph.node)))]


def copy_node(model: ModelProto, rng: Generator) -> None:
    node = model.graph.node.add()
    node.CopyFrom(random_node(model, rng))
    if rng.random() < 0.5:
        for i, name in enumerate(node.output):
            node.output[i] = f"{name}_copy"


def shuffle_nodes(model: ModelProto, rng: Generator) -> None:
    nodes = [NodeProto.FromString(node.SerializeToString()) for node in model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes[i] for i in rng.permutation(len(nodes)))


def make_cycle(model: ModelProto, rng: Generator) -> None:
    node = random_node(model, rng)
    later = random_node(model, rng)
    if node.input and later.output:
        node.input[int(rng.integers(len(node.input)))] = pick(rng, later.output)


def recurse(model: ModelProto, rng: Generator) -> None:
    for function in model.functions:
        node = function.node.add(op_type=function.name, domain=function.domain)
        node.input.extend(function.input)
        node.output.append("again")


def change_op(model: ModelProto, rng: Generator) -> None:
    node = random_node(model, rng)
    node.op_type = pick(rng, [*OPS, "Nonsense", "", "\u2603"])
    if rng.random() < 0.2:
        node.domain = pick(rng, ("com.example", "ai.onnx", "ai.onnx.ml", "local"))


def change_dims(model: ModelProto, rng: Generator) -> None:
    tensor = random_tensor(model, rng)
    if tensor.dims and rng.random() < 0.7:
        tensor.dims[int(rng.integers(len(tensor.dims)))] = pick(rng, HUGE)
    else:
        tensor.dims.append(pick(rng, HUGE))


def change_interface(model: ModelProto, rng: Generator) -> None:
    values = [*model.graph.input, *model.graph.output, *model.graph.value_info]
    if not values:
        return
    dims = pick(rng, values).type.tensor_type.shape.dim
    if dims and rng.random() < 0.7:
        dim = pick(rng, dims)
        if rng.random() < 0.7:
            dim.dim_value = pick(rng, HUGE)
        else:
            dim.dim_param = pick(rng, ("n", "", "?", "x" * 1000))
    else:
        dims.add().dim_value = pick(rng, HUGE)


def change_type(model: ModelProto, rng: Generator) -> None:
    kind = int(rng.integers(-1, 30))
    if rng.random() < 0.5:
        random_tensor(model, rng).data_type = kind
    elif model.graph.input:
        pick(rng, model.graph.input).type.tensor_type.elem_type = kind


def change_attribute(model: ModelProto, rng: Generator) -> None:
    node = random_node(model, rng)
    if not node.attribute or rng.random() < 0.2:
        name = pick(rng, ("axis", "group", "pads", "perm", "strides", "to", "kernel_shape"))
        node.attribute.append(helper.make_attribute(name, int(rng.integers(-9, 9))))
        return
    attribute = pick(rng, node.attribute)
    choice = int(rng.integers(5))
    if choice == 0:
        attribute.type = int(rng.integers(0, 15))
    elif choice == 1:
        attribute.i = int(pick(rng, HUGE))
    elif choice == 2:
        values = [int(pick(rng, HUGE)) for _ in range(int(rng.integers(0, 6)))]
        attribute.CopyFrom(
            AttributeProto(name=attribute.name, type=AttributeProto.INTS, ints=values)
        )
    elif choice == 3:
        attribute.name = pick(rng, ("axis", "group", "", "value", "x" * 100))
    else:
        attribute.s = rng.bytes(5)


def rename_input(model: ModelProto, rng: Generator) -> None:
    if model.graph.input:
        pick(rng, model.graph.input).name = pick(rng, ("", "renamed", "w1", "table", "image"))


def rename_output(model: ModelProto, rng: Generator) -> None:
    if model.graph.output:
        names = ("", "nothing", "w1", "image", "tokens", "c", "f", "e")
        pick(rng, model.graph.output).name = pick(rng, names)


def change_data(model: ModelProto, rng: Generator) -> None:
    """Constants that say how large other things become."""
    tensor = random_tensor(model, rng)
    if tensor.data_type == TensorProto.INT64:
        count = int(np.prod(tensor.dims)) if all(0 <= d < 100 for d in tensor.dims) else 1
        values = np.array([pick(rng, HUGE) for _ in range(count)], dtype=np.int64)
        tensor.ClearField("int64_data")
        tensor.raw_data = values.tobytes()
    elif tensor.raw_data:
        tensor.raw_data = tensor.raw_data[: int(rng.integers(len(tensor.raw_data)))]


def make_external(model: ModelProto, rng: Generator) -> None:
    tensor = random_tensor(model, rng)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.ClearField("raw_data")
    tensor.external_data.add(key="location", value=pick(rng, PATHS))
    for key in ("offset", "length"):
        if rng.random() < 0.5:
            value = str(pick(rng, (*HUGE, "abc", "1e9", 8, 64)))
            tensor.external_data.add(key=key, value=value)


def change_opset(model: ModelProto, rng: Generator) -> None:
    if model.opset_import:
        pick(rng, model.opset_import).version = int(pick(rng, (*HUGE, 7, 9, 11, 13, 21, 26)))


def insert_op(model: ModelProto, rng: Generator) -> None:
    """An operator of another kind between two others."""
    node = random_node(model, rng)
    if not node.input:
        return
    names = [t.name for t in model.graph.initializer]
    new = NodeProto(op_type=pick(rng, OPS), output=[f"inserted{rng.integers(99)}"])
    new.input.append(node.input[0])
    new.input.extend(pick(rng, names) for _ in range(int(rng.integers(3))) if names)
    node.input[0] = new.output[0]
    rest = [NodeProto.FromString(n.SerializeToString()) for n in model.graph.node]
    del model.graph.node[:]
    at = int(rng.integers(len(rest) + 1))
    model.graph.node.extend([*rest[:at], new, *rest[at:]])


Structure = Callable[[ModelProto, Generator], None]
STRUCTURE: tuple[Structure, ...] = (
    drop_node, copy_node, shuffle_nodes, make_cycle, recurse, change_op, change_dims,
    change_interface, change_type, change_attribute, rename_input, rename_output, change_data,
    make_external, change_opset, insert_op,
)  # fmt: skip
