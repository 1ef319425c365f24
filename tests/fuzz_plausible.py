"""Changes that mostly leave a model valid, so that it gets past the checker with odd content."""

import numpy as np
from fuzz_bytes import pick
from numpy.random import Generator
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

UNARY = [
    "Relu", "Sigmoid", "Identity", "Neg", "Dropout", "Softmax", "Flatten", "Shape", "Transpose",
    "ReduceMean", "GlobalMaxPool", "Squeeze", "NonZero", "Size", "LRN", "Softplus", "Unsqueeze",
    "ReduceSum", "ConstantOfShape", "LpNormalization", "ArgMax", "Cast", "Exp",
]  # fmt: skip
BINARY = [
    "Add", "Mul", "Sub", "MatMul", "Gemm", "Concat", "Reshape", "Expand", "Tile", "PRelu",
    "Pow", "Conv", "Gather", "Max", "Unsqueeze", "Pad", "Split", "Where", "Resize", "Slice",
]  # fmt: skip


def plausible(model: ModelProto, rng: Generator) -> bytes:
    """The bytes of a model with a few odd things, and outputs of free shape."""
    model = ModelProto.FromString(model.SerializeToString())
    del model.graph.value_info[:]
    for value in model.graph.output:
        for i, dim in enumerate(value.type.tensor_type.shape.dim):
            dim.dim_param = f"free{i}"
    for _ in range(pick(rng, (1, 1, 2, 3))):
        pick(rng, CHANGES)(model, rng)
    return bytes(model.SerializeToString())


def bypass(model: ModelProto, rng: Generator) -> None:
    index = int(rng.integers(len(model.graph.node)))
    node = model.graph.node[index]
    outputs = {value.name for value in model.graph.output}
    if not node.input or outputs & set(node.output):
        return
    source, gone = node.input[0], node.output[0]
    for other in model.graph.node:
        for i, name in enumerate(other.input):
            if name == gone:
                other.input[i] = source
    del model.graph.node[index]


def insert(model: ModelProto, rng: Generator) -> None:
    at = int(rng.integers(len(model.graph.node)))
    node = model.graph.node[at]
    if not node.input:
        return
    slot = int(rng.integers(len(node.input)))
    new = NodeProto(output=[f"new{rng.integers(10**6)}"], input=[node.input[slot]])
    if rng.random() < 0.5:
        new.op_type = pick(rng, UNARY)
    else:
        new.op_type = pick(rng, BINARY)
        new.input.append(pick(rng, earlier(model, at)))
    if rng.random() < 0.3:
        new.attribute.append(helper.make_attribute("axis", int(rng.integers(-4, 5))))
    if new.op_type == "Cast":
        new.attribute.append(helper.make_attribute("to", int(rng.integers(1, 17))))
    node.input[slot] = new.output[0]
    rest = [NodeProto.FromString(n.SerializeToString()) for n in model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend([*rest[:at], new, *rest[at:]])


def earlier(model: ModelProto, at: int) -> list[str]:
    made = [name for node in model.graph.node[:at] for name in node.output if name]
    given = [item.name for item in (*model.graph.input, *model.graph.initializer)]
    return [*given, *made]


def rewire(model: ModelProto, rng: Generator) -> None:
    at = int(rng.integers(len(model.graph.node)))
    node = model.graph.node[at]
    if node.input:
        node.input[int(rng.integers(len(node.input)))] = pick(rng, earlier(model, at))


def swap_op(model: ModelProto, rng: Generator) -> None:
    node = pick(rng, model.graph.node)
    if len(node.input) == 1:
        node.op_type = pick(rng, UNARY)
        del node.attribute[:]
    elif len(node.input) == 2:
        node.op_type = pick(rng, BINARY)
        del node.attribute[:]


def resize(model: ModelProto, rng: Generator) -> None:
    tensor = pick(rng, model.graph.initializer)
    if tensor.data_type != TensorProto.FLOAT:
        return
    dims = list(tensor.dims)
    for i in range(len(dims)):
        if rng.random() < 0.5:
            dims[i] = int(pick(rng, (0, 1, 2, 3, dims[i] * 2)))
    array = rng.random(dims, dtype=np.float32)
    array[rng.random(dims) < 0.05] = pick(rng, (np.nan, np.inf, 0.0))
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def tie(model: ModelProto, rng: Generator) -> None:
    first, second = pick(rng, model.graph.initializer), pick(rng, model.graph.initializer)
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            if name == first.name:
                node.input[i] = second.name


def expose(model: ModelProto, rng: Generator) -> None:
    name = pick(rng, earlier(model, len(model.graph.node)))
    value = helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * int(rng.integers(5)))
    model.graph.output.append(value)


def move_data(model: ModelProto, rng: Generator) -> None:
    tensor = pick(rng, model.graph.initializer)
    if tensor.data_location == TensorProto.EXTERNAL:
        return
    array = numpy_helper.to_array(tensor)
    tensor.CopyFrom(TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims))
    tensor.data_location = TensorProto.EXTERNAL
    offset = int(rng.integers(64))
    for key, value in (("location", "w.bin"), ("offset", offset), ("length", array.nbytes)):
        tensor.external_data.add(key=key, value=str(value))


def list_weight(model: ModelProto, rng: Generator) -> None:
    tensor = pick(rng, model.graph.initializer)
    if all(value.name != tensor.name for value in model.graph.input):
        value = helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        model.graph.input.append(value)


def free_weight(model: ModelProto, rng: Generator) -> None:
    """A weight that callers give."""
    index = int(rng.integers(len(model.graph.initializer)))
    list_weight(model, rng)
    tensor = model.graph.initializer[index]
    if any(value.name == tensor.name for value in model.graph.input):
        del model.graph.initializer[index]


def change_version(model: ModelProto, rng: Generator) -> None:
    for entry in model.opset_import:
        if entry.domain == "":
            entry.version = int(rng.integers(7, 24))
    if rng.random() < 0.3:
        model.ir_version = int(rng.integers(1, 12))


def change_axis(model: ModelProto, rng: Generator) -> None:
    node = pick(rng, model.graph.node)
    for attribute in node.attribute:
        if attribute.type == attribute.INT:
            attribute.i = int(rng.integers(-5, 9))
        elif attribute.type == attribute.INTS:
            for i in range(len(attribute.ints)):
                attribute.ints[i] = int(rng.integers(-2, 5))
        elif attribute.type == attribute.STRING and attribute.name == "auto_pad":
            attribute.s = pick(rng, (b"VALID", b"SAME_LOWER", b"NOTSET", b"ODD"))


def fix_input(model: ModelProto, rng: Generator) -> None:
    for dim in pick(rng, model.graph.input).type.tensor_type.shape.dim:
        if rng.random() < 0.6:
            dim.dim_value = int(pick(rng, (0, 1, 2, 5, 8, 64, 10**6)))
        else:
            dim.dim_param = pick(rng, ("n", "m"))


def rename(model: ModelProto, rng: Generator) -> None:
    """Names with odd characters, clashes with names that passes make up."""
    old = pick(rng, earlier(model, len(model.graph.node)))
    new = pick(
        rng, ("a/b", "x y", "\u00e9\U0001f600", "../..", "crespr.layout", "0", "%s{}", "Relu")
    )
    for item in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        if item.name == old:
            item.name = new
    for node in model.graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                if name == old:
                    names[i] = new


CHANGES = (
    bypass, insert, insert, rewire, rewire, swap_op, swap_op, resize, tie, expose, move_data,
    list_weight, free_weight, change_version, change_axis, change_axis, fix_input, rename,
)  # fmt: skip
