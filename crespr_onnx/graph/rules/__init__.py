"""What each operator does to channels: one small function per operator, in one table.

A rule reads the channel axes of a node's inputs from the tracker and records those of its outputs.
For a use that it does not cover it raises `NotUnderstoodError`; the analysis then freezes what the
node touches and keeps the reason.
"""

from collections.abc import Callable, Mapping

import onnx_ir as ir

from crespr_onnx.graph.rules import elementwise, routing, shape, spatial, weighted
from crespr_onnx.graph.tracker import ChannelTracker

Rule = Callable[[ir.Node, ChannelTracker], None]

RULES: Mapping[str, Rule] = {
    **dict.fromkeys(elementwise.UNARY, elementwise.unary),
    **dict.fromkeys(elementwise.BROADCAST, elementwise.broadcast),
    "BatchNormalization": elementwise.batch_normalization,
    "Softmax": elementwise.softmax,
    "LogSoftmax": elementwise.softmax,
    **dict.fromkeys(spatial.POOLING, spatial.pooling),
    **dict.fromkeys(spatial.REDUCTIONS, spatial.reduction),
    "Resize": spatial.resize,
    "Conv": weighted.conv,
    "ConvTranspose": weighted.conv_transpose,
    "Gemm": weighted.gemm,
    "MatMul": weighted.matmul,
    "Concat": routing.concat,
    "Split": routing.split,
    "Slice": routing.slice_,
    "Pad": routing.pad,
    "Gather": routing.gather,
    "Transpose": shape.transpose,
    "Flatten": shape.reshape,
    "Reshape": shape.reshape,
    "Squeeze": shape.reshape,
    "Unsqueeze": shape.reshape,
    "Shape": shape.shape_of,
}
