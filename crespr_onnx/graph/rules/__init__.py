"""What each operator does to channels: one small function per operator, in one table.

A rule reads the channel axes of a node's inputs from the tracker and records those of its outputs.
For a use that it does not cover it raises `NotUnderstoodError`; the analysis then freezes what the
node touches and keeps the reason.
"""

from collections.abc import Callable, Mapping

import onnx_ir as ir

from crespr_onnx.graph.rules import (
    attention,
    elementwise,
    normalisation,
    routing,
    shape,
    spatial,
    weighted,
)
from crespr_onnx.graph.tracker import ChannelTracker

Rule = Callable[[ir.Node, ChannelTracker], None]

RULES: Mapping[str, Rule] = {
    **dict.fromkeys(elementwise.UNARY, elementwise.unary),
    **dict.fromkeys(elementwise.BROADCAST, elementwise.broadcast),
    "BatchNormalization": normalisation.batch_normalization,
    "GroupNormalization": normalisation.group_normalization,
    "InstanceNormalization": normalisation.instance_normalization,
    "LayerNormalization": normalisation.layer_normalization,
    "RMSNormalization": normalisation.layer_normalization,
    "LpNormalization": normalisation.lp_normalization,
    "Softmax": normalisation.softmax,
    "LogSoftmax": normalisation.softmax,
    "Attention": attention.attention,
    "GRU": attention.recurrent,
    "LSTM": attention.recurrent,
    "RNN": attention.recurrent,
    **dict.fromkeys(spatial.POOLING, spatial.pooling),
    **dict.fromkeys(spatial.REDUCTIONS, spatial.reduction),
    "Resize": spatial.resize,
    "Upsample": spatial.upsample,
    "Conv": weighted.conv,
    "ConvTranspose": weighted.conv_transpose,
    "Gemm": weighted.gemm,
    "MatMul": attention.matmul,
    "Concat": routing.concat,
    "Split": routing.split,
    "Slice": routing.slice_,
    "Pad": routing.pad,
    "Gather": routing.gather,
    "Transpose": shape.transpose,
    "Flatten": shape.reshape,
    "Reshape": shape.reshape,
    "Squeeze": shape.squeeze,
    "Unsqueeze": shape.unsqueeze,
    "Shape": shape.shape_of,
}
