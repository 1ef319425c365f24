"""Models on which relevance is tested, in float64 where their operators allow it."""

import numpy as np
import onnx_ir as ir
from training_models import normal, parse

LENET = """lenet (float[N, 1, 12, 12] x) => (float[N, 3] p) {
    c1 = Conv <kernel_shape = [5, 5]> (x, w1, b1)
    a1 = Relu (c1)
    m1 = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (a1)
    c2 = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (m1, w2, b2)
    a2 = Relu (c2)
    m2 = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (a2)
    f = Flatten (m2)
    h = Gemm <transB = 1> (f, w3, b3)
    a3 = Relu (h)
    y = Gemm (a3, w4, b4)
    p = Softmax <axis = 1> (y)
}"""

RESNET = """resnet (float[N, 2, 6, 6] x) => (float[N, 3] y) {
    c1 = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, w1)
    n1 = BatchNormalization (c1, s1, t1, m1, v1)
    a1 = Relu (n1)
    c2 = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (a1, w2)
    n2 = BatchNormalization (c2, s2, t2, m2, v2)
    sum = Add (n2, a1)
    a2 = Relu (sum)
    g = GlobalAveragePool (a2)
    f = Flatten (g)
    y = Gemm <transB = 1> (f, w3)
}"""


def lenet(widths: tuple[int, int, int] = (4, 6, 8)) -> ir.Model:
    """LeNet-like, with both kinds of pooling and a softmax at the end; all biases positive."""
    a, b, c = widths
    arrays = {
        "w1": normal(1, a, 1, 5, 5), "b1": np.abs(normal(2, a)),
        "w2": normal(3, b, a, 3, 3), "b2": np.abs(normal(4, b)),
        "w3": normal(5, c, 4 * b), "b3": np.abs(normal(6, c)),
        "w4": normal(7, c, 3), "b4": np.abs(normal(8, 3)),
    }  # fmt: skip
    return parse(LENET, **arrays)


def resnet(width: int = 4, shift: float = 1.0) -> ir.Model:
    """One residual block with BatchNorm and a linear layer without bias.

    Args:
        width: channels.
        shift: times the shifts of the BatchNorms; with 0, and means of 0, there is no bias at all.
    """
    arrays = {"w1": normal(1, width, 2, 3, 3), "w2": normal(2, width, width, 3, 3)}
    for i in (1, 2):
        arrays |= {
            f"s{i}": normal(10 + i, width), f"t{i}": shift * normal(20 + i, width),
            f"m{i}": shift * normal(30 + i, width), f"v{i}": np.abs(normal(40 + i, width)) + 0.5,
        }  # fmt: skip
    return parse(RESNET, **arrays, w3=normal(3, 3, width))
