"""The architectures of the image models that benchmarks use, with random weights."""

from pathlib import Path

import numpy as np
import onnx
from onnx import helper


class _Chain:
    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def node(self, op: str, *inputs: str, **attributes: object) -> str:
        name = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
        return name

    def layer(self, op: str, data: str, shape: tuple[int, ...], **attributes: object) -> str:
        fan_in = int(np.prod(shape[1:]))
        arrays = (
            self.rng.normal(size=shape) * (2.0 / fan_in) ** 0.5,
            0.1 * self.rng.normal(size=shape[0]),
        )
        names = []
        for array in arrays:
            names.append(f"w{len(self.weights)}")
            tensor = onnx.numpy_helper.from_array(array.astype(np.float32), names[-1])
            self.weights.append(tensor)
        return self.node(op, data, *names, **attributes)

    def conv(self, data: str, out: int, into: int, side: int, **attributes: object) -> str:
        return self.layer("Conv", data, (out, into, side, side), **attributes)

    def full(self, data: str, out: int, into: int) -> str:
        return self.layer("Gemm", data, (out, into), transB=1)

    def save(self, path: Path, shape: tuple[int, ...], result: str) -> Path:
        ends = [
            helper.make_tensor_value_info(name, 1, ["N", *dims])
            for name, dims in (("x", shape), (result, (10,)))
        ]
        graph = helper.make_graph(self.nodes, path.stem, ends[:1], ends[1:], self.weights)
        opset = [helper.make_opsetid("", 17)]
        onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
        return path


def lenet5(path: Path) -> Path:
    """LeNet-5 for images of 28x28 (LeCun et al. 1998), with maximum pooling."""
    net = _Chain()
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    data = net.node("Relu", net.conv("x", 6, 1, 5, pads=[2] * 4))
    data = net.node("Relu", net.conv(net.node("MaxPool", data, **pool), 16, 6, 5))
    data = net.node("Flatten", net.node("MaxPool", data, **pool))
    for out, into in ((120, 400), (84, 120)):
        data = net.node("Relu", net.full(data, out, into))
    return net.save(path, (1, 28, 28), net.full(data, 10, 84))


def cifar_resnet(path: Path, blocks: int) -> Path:
    """ResNet with 6 blocks + 2 layers for images of 32x32 (He et al., arXiv 1512.03385)."""
    net = _Chain()
    data = net.node("Relu", net.conv("x", 16, 3, 3, pads=[1] * 4))
    into = 16
    for width in (16, 32, 64):
        for _ in range(blocks):
            stride = width // into
            first = net.conv(data, width, into, 3, pads=[1] * 4, strides=[stride] * 2)
            second = net.conv(net.node("Relu", first), width, width, 3, pads=[1] * 4)
            if stride > 1:
                data = net.conv(data, width, into, 1, strides=[stride] * 2)
            data = net.node("Relu", net.node("Add", second, data))
            into = width
    pooled = net.node("Flatten", net.node("GlobalAveragePool", data))
    return net.save(path, (3, 32, 32), net.full(pooled, 10, 64))
