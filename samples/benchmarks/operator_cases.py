"""Operators as real networks have them, and three small networks, with random weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]


@dataclass(frozen=True)
class Case:
    """A model in ONNX's text form.

    Attributes:
        inputs: their shapes.
        body: its nodes; the result is `y`.
        weights: shapes of its constants; those of rank 0 are `scalars`.
        integers: values of constants of integers.
        scalars: values of constants that are single numbers.
    """

    inputs: Shapes
    body: str
    weights: Shapes = field(default_factory=dict)
    integers: Mapping[str, list[int]] = field(default_factory=dict)
    scalars: Mapping[str, float] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Writes the model with weights of about unit gain."""
        rng = np.random.default_rng(0)
        inputs = ", ".join(f"float{list(shape)} {name}" for name, shape in self.inputs.items())
        model = onnx.parser.parse_model(
            f'<ir_version: 8, opset_import: ["" : 17]> net ({inputs}) => (float y) {{{self.body}}}'
        )
        arrays: dict[str, np.ndarray] = {
            name: (rng.normal(size=shape) / np.sqrt(fan_in(shape))).astype(np.float32)
            for name, shape in self.weights.items()
        }
        arrays |= {name: np.array(value, np.int64) for name, value in self.integers.items()}
        arrays |= {name: np.array(value, np.float32) for name, value in self.scalars.items()}
        for name, array in arrays.items():
            model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        del model.graph.output[0].type.tensor_type.shape.dim[:]
        model.graph.output[0].type.tensor_type.ClearField("shape")
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        onnx.checker.check_model(model)
        onnx.save(model, path)


def fan_in(shape: Shape) -> float:
    """What a result sums over: all axes of a kernel but the first, the first of a matrix."""
    return {1: 1.0, 2: shape[0]}.get(len(shape), float(np.prod(shape[1:])))


GELU = """
    {y}_h = Div ({x}, root_two)
    {y}_e = Erf ({y}_h)
    {y}_s = Add ({y}_e, one)
    {y}_m = Mul ({x}, {y}_s)
    {y} = Mul ({y}_m, half)"""
GELU_SCALARS = {"root_two": 2**0.5, "one": 1.0, "half": 0.5}


def attention(tokens: int, heads: int, width: int) -> dict[str, Case]:
    """The two products of attention and what lies between them."""
    name = f"{heads}x{tokens}x{width}"
    queries, keys = (1, heads, tokens, width), (1, heads, width, tokens)
    weights = (1, heads, tokens, tokens)
    return {
        f"attention QK {name}": Case({"a": queries, "b": keys}, "y = MatMul (a, b)"),
        f"attention AV {name}": Case({"a": weights, "b": queries}, "y = MatMul (a, b)"),
    }


def depthwise(channels: int, size: int, stride: int) -> dict[str, Case]:
    """A depthwise 3 x 3 convolution with its bias and ReLU6."""
    body = f"""c = Conv <group = {channels}, pads = [1, 1, 1, 1], strides = [{stride}, {stride}]>
        (x, w, b) y = Clip (c, low, high)"""
    return {
        f"depthwise 3x3/{stride} {channels}ch {size}x{size}": Case(
            {"x": (1, channels, size, size)},
            body,
            {"w": (channels, 1, 3, 3), "b": (channels,)},
            scalars={"low": 0.0, "high": 6.0},
        )
    }


def pooling(op: str, channels: int, size: int, attributes: str) -> Case:
    """A pooling operator."""
    return Case({"x": (1, channels, size, size)}, f"y = {op} <{attributes}> (x)")


OPERATORS: dict[str, Case] = {
    "Softmax 10": Case({"x": (1, 10)}, "y = Softmax (x)"),
    "Softmax 1000": Case({"x": (1, 1000)}, "y = Softmax (x)"),
    "Softmax 3x197x197": Case({"x": (1, 3, 197, 197)}, "y = Softmax (x)"),
    "Softmax 12x64x64": Case({"x": (1, 12, 64, 64)}, "y = Softmax (x)"),
    **attention(197, 3, 64),
    **attention(64, 12, 32),
    "LayerNormalization 197x192": Case(
        {"x": (1, 197, 192)}, "y = LayerNormalization (x, g, b)", {"g": (192,), "b": (192,)}
    ),
    "GELU 197x768": Case({"x": (1, 197, 768)}, GELU.format(x="x", y="y"), scalars=GELU_SCALARS),
    "ReduceMean 197x192, last": Case({"x": (1, 197, 192)}, "y = ReduceMean <axes = [2]> (x)"),
    "ReduceMean 197x192, first": Case({"x": (1, 197, 192)}, "y = ReduceMean <axes = [1]> (x)"),
    "GlobalAveragePool 256x14x14": Case({"x": (1, 256, 14, 14)}, "y = GlobalAveragePool (x)"),
    "MaxPool 2x2/2 64x32x32": pooling("MaxPool", 64, 32, "kernel_shape = [2, 2], strides = [2, 2]"),
    "MaxPool 3x3/2 64x112x112": pooling(
        "MaxPool", 64, 112, "kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]"
    ),
    "AveragePool 2x2/2 64x32x32": pooling(
        "AveragePool", 64, 32, "kernel_shape = [2, 2], strides = [2, 2]"
    ),
    **depthwise(32, 112, 1),
    **depthwise(64, 112, 2),
    **depthwise(128, 28, 1),
    **depthwise(256, 14, 1),
    **depthwise(256, 28, 2),
    "ConvTranspose 2x2/2 64x16x16": Case(
        {"x": (1, 64, 16, 16)},
        "y = ConvTranspose <strides = [2, 2]> (x, w)",
        {"w": (64, 32, 2, 2)},
    ),
    "ConvTranspose 4x4/2 64x16x16": Case(
        {"x": (1, 64, 16, 16)},
        "y = ConvTranspose <strides = [2, 2], pads = [1, 1, 1, 1]> (x, w)",
        {"w": (64, 32, 4, 4)},
    ),
    "Resize nearest 64x16x16": Case(
        {"x": (1, 64, 16, 16)},
        """y = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric",
            nearest_mode = "floor"> (x, , , size)""",
        integers={"size": [1, 64, 32, 32]},
    ),
    "Resize linear 64x16x16": Case(
        {"x": (1, 64, 16, 16)},
        'y = Resize <mode = "linear"> (x, , , size)',
        integers={"size": [1, 64, 32, 32]},
    ),
    "Transpose 197x3x64": Case({"x": (1, 197, 3, 64)}, "y = Transpose <perm = [0, 2, 1, 3]> (x)"),
    "Transpose 192x784": Case({"x": (1, 192, 784)}, "y = Transpose <perm = [0, 2, 1]> (x)"),
    "Concat 2x 64x28x28": Case(
        {"a": (1, 64, 28, 28), "b": (1, 64, 28, 28)}, "y = Concat <axis = 1> (a, b)"
    ),
    "Split, swap, Concat 128x28x28": Case(
        {"x": (1, 128, 28, 28)},
        "a, b = Split <axis = 1> (x) y = Concat <axis = 1> (b, a)",
    ),
    "Sigmoid times x 128x28x28": Case({"x": (1, 128, 28, 28)}, "s = Sigmoid (x) y = Mul (x, s)"),
    "HardSwish 128x28x28": Case({"x": (1, 128, 28, 28)}, "y = HardSwish (x)"),
}


def encoder(blocks: int = 2, tokens: int = 197, width: int = 192, heads: int = 3) -> Case:
    """Blocks of a vision transformer (arXiv 2010.11929), as PyTorch exports them."""
    each = width // heads
    body, weights, x = "", {}, "x"
    for i in range(blocks):
        body += f"""
            n{i} = LayerNormalization ({x}, g{i}1, b{i}1)
            qkv{i} = MatMul (n{i}, wqkv{i})
            qkvb{i} = Add (qkv{i}, bqkv{i})
            parts{i} = Reshape (qkvb{i}, parted)
            heads{i} = Transpose <perm = [2, 0, 3, 1, 4]> (parts{i})
            q{i} = Gather <axis = 0> (heads{i}, zero)
            k{i} = Gather <axis = 0> (heads{i}, first)
            v{i} = Gather <axis = 0> (heads{i}, second)
            kt{i} = Transpose <perm = [0, 1, 3, 2]> (k{i})
            scores{i} = MatMul (q{i}, kt{i})
            scaled{i} = Mul (scores{i}, scale)
            soft{i} = Softmax <axis = -1> (scaled{i})
            mixed{i} = MatMul (soft{i}, v{i})
            back{i} = Transpose <perm = [0, 2, 1, 3]> (mixed{i})
            joined{i} = Reshape (back{i}, whole)
            out{i} = MatMul (joined{i}, wo{i})
            outb{i} = Add (out{i}, bo{i})
            r{i} = Add ({x}, outb{i})
            m{i}n = LayerNormalization (r{i}, g{i}2, b{i}2)
            up{i} = MatMul (m{i}n, wup{i})
            u{i} = Add (up{i}, bup{i})
            {GELU.format(x=f"u{i}", y=f"gelu{i}")}
            down{i} = MatMul (gelu{i}, wdown{i})
            downb{i} = Add (down{i}, bdown{i})
            {"y" if i == blocks - 1 else f"z{i}"} = Add (r{i}, downb{i})"""
        x = f"z{i}"
        weights |= {
            f"g{i}1": (width,), f"b{i}1": (width,), f"g{i}2": (width,), f"b{i}2": (width,),
            f"wqkv{i}": (width, 3 * width), f"bqkv{i}": (3 * width,),
            f"wo{i}": (width, width), f"bo{i}": (width,),
            f"wup{i}": (width, 4 * width), f"bup{i}": (4 * width,),
            f"wdown{i}": (4 * width, width), f"bdown{i}": (width,),
        }  # fmt: skip
    return Case(
        {"x": (1, tokens, width)},
        body,
        weights,
        {"parted": [1, tokens, 3, heads, each], "whole": [1, tokens, width], "zero": 0,
         "first": 1, "second": 2},
        GELU_SCALARS | {"scale": each**-0.5},
    )  # fmt: skip


def separable(size: int = 112) -> Case:
    """Depthwise and pointwise convolutions by turns, as in MobileNet (arXiv 1704.04861)."""
    body = "c = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (x, w, b) s0 = Relu (c)"
    weights: dict[str, Shape] = {"w": (32, 3, 3, 3), "b": (32,)}
    layers = [(32, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2),
              (512, 512, 1)]  # fmt: skip
    for i, (before, after, stride) in enumerate(layers):
        body += f"""
            d{i} = Conv <group = {before}, pads = [1, 1, 1, 1], strides = [{stride}, {stride}]>
                (s{i}, dw{i}, db{i})
            dr{i} = Relu (d{i})
            p{i} = Conv (dr{i}, pw{i}, pb{i})
            s{i + 1} = Relu (p{i})"""
        weights |= {
            f"dw{i}": (before, 1, 3, 3), f"db{i}": (before,), f"pw{i}": (after, before, 1, 1),
            f"pb{i}": (after,),
        }  # fmt: skip
    body += f"""
        pooled = GlobalAveragePool (s{len(layers)})
        flat = Flatten (pooled)
        y = Gemm (flat, fw, fb)"""
    return Case({"x": (1, 3, 2 * size, 2 * size)}, body, weights | {"fw": (512, 100), "fb": (100,)})


def decoder(size: int = 8) -> Case:
    """The way up of a U-Net (arXiv 1505.04597): upsample, concatenate, convolve twice."""
    body, weights = "", {}
    inputs, x, width = {"x": (1, 128, size, size)}, "x", 128
    for i in range(3):
        half = width // 2
        inputs[f"skip{i}"] = (1, half, size << i + 1, size << i + 1)
        body += f"""
            up{i} = ConvTranspose <strides = [2, 2]> ({x}, uw{i}, ub{i})
            both{i} = Concat <axis = 1> (up{i}, skip{i})
            a{i} = Conv <pads = [1, 1, 1, 1]> (both{i}, aw{i}, ab{i})
            ar{i} = Relu (a{i})
            c{i} = Conv <pads = [1, 1, 1, 1]> (ar{i}, cw{i}, cb{i})
            r{i} = Relu (c{i})"""
        weights |= {
            f"uw{i}": (width, half, 2, 2), f"ub{i}": (half,), f"aw{i}": (half, width, 3, 3),
            f"ab{i}": (half,), f"cw{i}": (half, half, 3, 3), f"cb{i}": (half,),
        }  # fmt: skip
        x, width = f"r{i}", half
    body += f" logits = Conv ({x}, w, b) y = Sigmoid (logits)"
    return Case(inputs, body, weights | {"w": (1, width, 1, 1), "b": (1,)})


NETWORKS = {
    "encoder: 2 blocks, 197x192": encoder(),
    "separable: 15 convolutions, 224x224": separable(),
    "decoder: 3 levels to 64x64": decoder(),
}
