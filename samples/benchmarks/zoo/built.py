"""Graphs as converters of other frameworks and older exporters leave them, node by node."""

from collections.abc import Callable

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper


def model(
    text: str,
    opset: int,
    shapes: dict[str, tuple[int, ...]],
    lists: dict[str, list[int]] | None = None,
) -> ModelProto:
    """A model from the text of its graph, with random weights of the given shapes."""
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> g {text}')
    rng = np.random.default_rng(0)
    for name, shape in shapes.items():
        fan_in = np.prod(shape[1:]) if len(shape) > 1 else 4.0
        array = rng.standard_normal(shape) / np.sqrt(fan_in)
        # Variances must be positive, and a Clip's bounds leave room.
        array = np.abs(array) + 0.5 if name.startswith("var") else array
        array = np.array({"low": 0.0, "high": 6.0}[name]) if not shape else array
        proto.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
    for name, numbers in (lists or {}).items():
        array = np.array(numbers, np.int64)
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    return proto


def tensorflow_cnn() -> ModelProto:
    """tf2onnx: NHWC outside, Transposes around each Conv, biases added with channels last."""
    return model(
        """(float[N, 16, 16, 3] x) => (float[N, 10] y) {
            x1 = Transpose <perm = [0, 3, 1, 2]> (x)
            c1 = Conv <auto_pad = "SAME_UPPER", strides = [2, 2], kernel_shape = [3, 3]> (x1, w1)
            l1 = Transpose <perm = [0, 2, 3, 1]> (c1)
            a1 = Add (l1, b1)
            r1 = Relu (a1)
            x2 = Transpose <perm = [0, 3, 1, 2]> (r1)
            c2 = Conv <auto_pad = "SAME_UPPER", kernel_shape = [3, 3]> (x2, w2)
            l2 = Transpose <perm = [0, 2, 3, 1]> (c2)
            m2 = Mul (l2, scale2)
            a2 = Add (m2, b2)
            r2 = Clip (a2, low, high)
            x3 = Transpose <perm = [0, 3, 1, 2]> (r2)
            p3 = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x3)
            l3 = Transpose <perm = [0, 2, 3, 1]> (p3)
            f = Reshape (l3, flat)
            h = MatMul (f, w3)
            hb = Add (h, b3)
            hr = Relu (hb)
            o = MatMul (hr, w4)
            ob = Add (o, b4)
            y = Softmax <axis = -1> (ob)
        }""",
        13,
        {
            "w1": (16, 3, 3, 3), "b1": (16,), "w2": (24, 16, 3, 3), "scale2": (24,), "b2": (24,),
            "w3": (16 * 24, 32), "b3": (32,), "w4": (32, 10), "b4": (10,), "low": (), "high": (),
        },
        {"flat": [-1, 16 * 24]},
    )  # fmt: skip


def tensorflow_residual() -> ModelProto:
    """Residual Add, Concat and mean over space in NHWC, with a depthwise convolution."""
    return model(
        """(float[N, 16, 16, 3] x) => (float[N, 10] y) {
            x1 = Transpose <perm = [0, 3, 1, 2]> (x)
            c1 = Conv <auto_pad = "SAME_UPPER", strides = [2, 2]> (x1, w1, b1)
            r1 = Relu (c1)
            c2 = Conv <auto_pad = "SAME_LOWER", group = 16, kernel_shape = [3, 3]> (r1, w2)
            c3 = Conv <kernel_shape = [1, 1]> (c2, w3, b3)
            l1 = Transpose <perm = [0, 2, 3, 1]> (r1)
            l3 = Transpose <perm = [0, 2, 3, 1]> (c3)
            s = Add (l1, l3)
            t = Concat <axis = 3> (s, l1)
            x4 = Transpose <perm = [0, 3, 1, 2]> (t)
            c4 = Conv <kernel_shape = [1, 1]> (x4, w4, b4)
            r4 = LeakyRelu <alpha = 0.1> (c4)
            l4 = Transpose <perm = [0, 2, 3, 1]> (r4)
            m = ReduceMean <axes = [1, 2], keepdims = 0> (l4)
            o = MatMul (m, w5)
            y = Add (o, b5)
        }""",
        13,
        {
            "w1": (16, 3, 3, 3), "b1": (16,), "w2": (16, 1, 3, 3), "w3": (16, 16, 1, 1),
            "b3": (16,), "w4": (24, 32, 1, 1), "b4": (24,), "w5": (24, 10), "b5": (10,),
        },
    )  # fmt: skip


def paddle() -> ModelProto:
    """paddle2onnx: every weight is a Constant node, BatchNorm kept, hard-swish spelled out."""
    proto = model(
        """(float[N, 3, 16, 16] x) => (float[N, 10] y) {
            c1 = Conv <strides = [2, 2], pads = [1, 1, 1, 1], kernel_shape = [3, 3]> (x, w1)
            n1 = BatchNormalization <epsilon = 0.00001> (c1, scale1, b1, mean1, var1)
            s1 = HardSigmoid <alpha = 0.1666667, beta = 0.5> (n1)
            h1 = Mul (n1, s1)
            d2 = Conv <group = 16, pads = [1, 1, 1, 1], kernel_shape = [3, 3]> (h1, w2)
            n2 = BatchNormalization <epsilon = 0.00001> (d2, scale2, b2, mean2, var2)
            r2 = Relu (n2)
            c3 = Conv <kernel_shape = [1, 1]> (r2, w3)
            b3r = Reshape (b3, column)
            a3 = Add (c3, b3r)
            r3 = Relu (a3)
            g = GlobalAveragePool (r3)
            f = Reshape (g, flat)
            o = MatMul (f, w4)
            ob = Add (o, b4)
            y = Softmax <axis = 1> (ob)
        }""",
        11,
        {
            "w1": (16, 3, 3, 3), "scale1": (16,), "b1": (16,), "mean1": (16,), "var1": (16,),
            "w2": (16, 1, 3, 3), "scale2": (16,), "b2": (16,), "mean2": (16,), "var2": (16,),
            "w3": (24, 16, 1, 1), "b3": (24,), "w4": (24, 10), "b4": (10,),
        },
        {"flat": [0, -1], "column": [1, 24, 1, 1]},
    )  # fmt: skip
    constants = [
        helper.make_node("Constant", [], [tensor.name], value=tensor)
        for tensor in proto.graph.initializer
    ]
    nodes = [*constants, *proto.graph.node]
    del proto.graph.initializer[:], proto.graph.node[:]
    proto.graph.node.extend(nodes)
    return proto


def opset7() -> ModelProto:
    """IR 3, initializers among the inputs, attributes that later became inputs."""
    return _as_ir3(
        model(
            """(float[N, 3, 16, 16] x) => (float[N, 10] y) {
                p = Pad <mode = "constant", pads = [0, 0, 1, 1, 0, 0, 1, 1]> (x)
                c1 = Conv <kernel_shape = [3, 3]> (p, w1, b1)
                n1 = BatchNormalization <epsilon = 0.001> (c1, scale, shift, mean, var)
                a1 = Clip <min = 0.0, max = 6.0> (n1)
                m1 = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (a1)
                u = Upsample <mode = "nearest", scales = [1.0, 1.0, 2.0, 2.0]> (m1)
                c2 = Conv <kernel_shape = [3, 3], auto_pad = "SAME_UPPER", strides = [2, 2]> (u, w2)
                a2 = Elu <alpha = 0.5> (c2)
                g = AveragePool <kernel_shape = [8, 8]> (a2)
                f = Flatten <axis = 1> (g)
                d = Dropout <ratio = 0.5> (f)
                h = Gemm <transB = 1> (d, w3, b3)
                y = Softmax (h)
            }""",
            7,
            {
                "w1": (16, 3, 3, 3), "b1": (16,), "scale": (16,), "shift": (16,), "mean": (16,),
                "var": (16,), "w2": (24, 16, 3, 3), "w3": (10, 24), "b3": (10,),
            },
        )
    )  # fmt: skip


def opset8() -> ModelProto:
    """Slice, Split, Squeeze, ReduceMean with axes as attributes; Sum and Max of several."""
    return _as_ir3(
        model(
            """(float[N, 3, 16, 16] x) => (float[N, 10] y) {
                c1 = Conv <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]> (x, w1, b1)
                left, right = Split <axis = 1, split = [8, 8]> (c1)
                r = Relu (left)
                s = Sigmoid (right)
                t = Concat <axis = 1> (r, s)
                c2 = Conv <kernel_shape = [1, 1]> (t, w2)
                z = Sum (c2, c1, t)
                e = Max (z, c2)
                i = Slice <axes = [2, 3], starts = [1, 1], ends = [7, 7]> (e)
                q = ReduceMean <axes = [2], keepdims = 1> (i)
                v = ReduceMean <axes = [3], keepdims = 1> (q)
                f = Squeeze <axes = [2, 3]> (v)
                y = Gemm <alpha = 0.5, beta = 2.0> (f, w3, b3)
            }""",
            8,
            {"w1": (16, 3, 3, 3), "b1": (16,), "w2": (16, 16, 1, 1), "w3": (16, 10), "b3": (10,)},
        )
    )


def opset9() -> ModelProto:
    """An autoencoder with PRelu, InstanceNorm, ConvTranspose and Unsqueeze by attribute."""
    return model(
        """(float[N, 3, 16, 16] x) => (float[N, 3, 16, 16] y) {
            c1 = Conv <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]> (x, w1, b1)
            a1 = PRelu (c1, slope)
            n1 = InstanceNormalization <epsilon = 0.00001> (a1, scale1, shift1)
            c2 = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (n1, w2, b2)
            k = Unsqueeze <axes = [0, 2, 3]> (gain)
            t = Mul (c2, k)
            e = ConvTranspose <kernel_shape = [2, 2], strides = [2, 2]> (t, w3, b3)
            y = Tanh (e)
        }""",
        9,
        {
            "w1": (16, 3, 3, 3), "b1": (16,), "slope": (16, 1, 1), "scale1": (16,),
            "shift1": (16,), "w2": (24, 16, 3, 3), "b2": (24,), "gain": (24,),
            "w3": (24, 3, 2, 2), "b3": (3,),
        },
    )  # fmt: skip


def _as_ir3(proto: ModelProto) -> ModelProto:
    """Before IR version 4 every initializer had to be among the inputs."""
    proto.ir_version = 3
    for tensor in proto.graph.initializer:
        value = helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, tensor.dims)
        proto.graph.input.append(value)
    return proto


BUILT: dict[str, Callable[[], ModelProto]] = {
    "tensorflow_cnn": tensorflow_cnn,
    "tensorflow_residual": tensorflow_residual,
    "paddle": paddle,
    "opset7": opset7,
    "opset8": opset8,
    "opset9": opset9,
}
