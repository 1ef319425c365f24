"""Networks with random weights, for speed alone: what they answer means nothing."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

VGG16 = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)
"""Channels of its convolutions, 0 for pooling (Simonyan and Zisserman 2014, arXiv 1409.1556)."""
CLASSES = 10


class Network:
    """A chain of layers, each behind the last.

    Args:
        shape: of one sample.
    """

    def __init__(self, *shape: int) -> None:
        self._shape = shape
        self._width = shape[0]
        self._value = "input"
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._rng = np.random.default_rng(0)

    def layer(
        self, op: str, width: int, kernel: tuple[int, ...] = (), **attributes: object
    ) -> None:
        """A Conv or Gemm with random weights and biases of zero."""
        shape = (width, self._width, *kernel)
        fan_in = int(np.prod(shape[1:]))
        name = f"layer{len(self._weights) // 2}"
        weight = self._rng.standard_normal(shape, np.float32) * np.float32((2.0 / fan_in) ** 0.5)
        bias = np.zeros(width, np.float32)
        inputs = [self._value]
        for kind, array in (("weight", weight), ("bias", bias)):
            inputs.append(f"{name}.{kind}")
            self._weights.append(numpy_helper.from_array(array, inputs[-1]))
        self._node(op, inputs, **attributes)
        self._width = width

    def operator(self, op: str, **attributes: object) -> None:
        """An operator without weights."""
        self._node(op, [self._value], **attributes)

    def _node(self, op: str, inputs: list[str], **attributes: object) -> None:
        name = f"{op.lower()}{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
        self._value = name

    def save(self, path: Path) -> None:
        """Writes the model; its batch is free."""
        ends = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])
            for name, shape in (("input", self._shape), (self._value, (self._width,)))
        ]
        graph = helper.make_graph(self._nodes, "network", ends[:1], ends[1:], self._weights)
        opset = [helper.make_opsetid("", 17)]
        onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)


def vgg16(path: Path) -> None:
    """VGG-16 for 32x32 images: one pixel is left of them, so its dense layers have 512 inputs."""
    network = Network(3, 32, 32)
    for width in VGG16:
        if width:
            network.layer("Conv", width, (3, 3), pads=[1] * 4)
            network.operator("Relu")
        else:
            network.operator("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    network.operator("Flatten")
    for _ in range(2):
        network.layer("Gemm", 512, transB=1)
        network.operator("Relu")
    network.layer("Gemm", CLASSES, transB=1)
    network.save(path)


def mlp_4x4096(path: Path) -> None:
    """Four hidden layers of 4,096 units."""
    network = Network(4096)
    for _ in range(4):
        network.layer("Gemm", 4096, transB=1)
        network.operator("Relu")
    network.layer("Gemm", CLASSES, transB=1)
    network.save(path)
