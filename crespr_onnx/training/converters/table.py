"""Which converter serves which version of which operator.

An operator is served by a converter of this package, or by onnx2torch: its converter of the same
version, or of an older version that means the same.
"""

from collections.abc import Mapping

import onnx

from crespr_onnx.training.converters import (
    attention,
    conv,
    detection,
    elementwise,
    generate,
    indexing,
    matrix,
    normalise,
    pad,
    pool,
    recurrent,
    reduce,
    resize,
    sample,
    shapes,
)
from crespr_onnx.training.converters.node import CannotConvertError, Converter
from crespr_onnx.training.converters.stock import stock

_TYPES_ADDED = (19, 21, 23, 24, 25)

_OWN: Mapping[str, tuple[Converter, tuple[int, ...]]] = {
    "Acosh": (elementwise.unary, (9, 22)),
    "ArgMax": (reduce.arg_extreme, (1, 11, 12, 13)),
    "ArgMin": (reduce.arg_extreme, (1, 11, 12, 13)),
    "Asinh": (elementwise.unary, (9, 22)),
    "Atanh": (elementwise.unary, (9, 22)),
    "Attention": (attention.attention, (23, 24, 25)),
    "AveragePool": (pool.average_pool, (7, 10, 11, 19, 22)),
    "BatchNormalization": (normalise.batch_norm, (7, 9, 14, 15)),
    "BitShift": (elementwise.shift, (11, 28)),
    "BitwiseAnd": (elementwise.bitwise, (18,)),
    "BitwiseNot": (elementwise.unary, (18,)),
    "BitwiseOr": (elementwise.bitwise, (18,)),
    "BitwiseXor": (elementwise.bitwise, (18,)),
    "Cast": (elementwise.cast, (6, 9, 13, *_TYPES_ADDED, 28)),
    "CastLike": (elementwise.cast_like, (15, *_TYPES_ADDED)),
    "Clip": (elementwise.clip, (6, 11, 12, 13)),
    "Compress": (indexing.compress, (9, 11, 28)),
    "Constant": (generate.constant, (1, 9, 11, 12, 13, *_TYPES_ADDED)),
    "ConstantOfShape": (generate.constant_of_shape, (9, 20, 21, 23, 24, 25)),
    "Conv": (conv.conv, (1, 11, 22)),
    "ConvTranspose": (conv.conv_transpose, (1, 11, 22)),
    "Cosh": (elementwise.unary, (9, 22)),
    "CumProd": (reduce.cumulate, (26,)),
    "CumSum": (reduce.cumulate, (11, 14)),
    "DepthToSpace": (shapes.depth_to_space, (1, 11, 13, 28)),
    "Dropout": (elementwise.dropout, (7, 10, 12, 13, 22)),
    "Einsum": (matrix.einsum, (12, 28)),
    "Expand": (shapes.expand, (8, 13)),
    "Flatten": (shapes.flatten, (1, 9, 11, 13, 21, 23, 24, 25)),
    "GRU": (recurrent.recurrent, (7, 14, 22)),
    "Gather": (indexing.gather, (1, 11, 13)),
    "GatherElements": (indexing.gather_elements, (11, 13)),
    "GatherND": (indexing.gather_nd, (11, 12, 13)),
    "Gelu": (elementwise.gelu, (20,)),
    "Gemm": (matrix.gemm, (7, 9, 11, 13)),
    "GlobalAveragePool": (pool.global_average_pool, (1, 22)),
    "GlobalLpPool": (pool.global_lp_pool, (2, 22)),
    "GlobalMaxPool": (pool.global_max_pool, (1, 22)),
    "GridSample": (sample.grid_sample, (16, 20, 22)),
    "GroupNormalization": (normalise.group_norm, (18, 21)),
    "InstanceNormalization": (normalise.instance_norm, (6, 22)),
    "IsInf": (elementwise.is_inf, (10, 20)),
    "LSTM": (recurrent.recurrent, (7, 14, 22)),
    "LayerNormalization": (normalise.layer_norm, (17,)),
    "LpNormalization": (normalise.lp_normalise, (1, 22)),
    "LpPool": (pool.lp_pool, (2, 11, 18, 22)),
    "MaxPool": (pool.max_pool, (1, 8, 10, 11, 12, 22)),
    "MeanVarianceNormalization": (normalise.standardise, (9, 13)),
    "Mish": (elementwise.unary, (18, 22)),
    "Mod": (elementwise.mod, (10, 13, 28)),
    "NonMaxSuppression": (detection.non_max_suppression, (10, 11)),
    "NonZero": (indexing.non_zero, (9, 13)),
    "OneHot": (generate.one_hot, (9, 11, 28)),
    "PRelu": (elementwise.prelu, (7, 9, 16)),
    "Pad": (pad.pad, (2, 11, 13, 18, *_TYPES_ADDED)),
    "Pow": (elementwise.pow_, (7, 12, 13, 15)),
    "RMSNormalization": (normalise.rms_norm, (23,)),
    "RNN": (recurrent.recurrent, (7, 14, 22)),
    "Range": (generate.range_, (11, 27)),
    "ReduceL1": (reduce.reduce, (1, 11, 13, 18)),
    "ReduceL2": (reduce.reduce, (1, 11, 13, 18)),
    "ReduceLogSum": (reduce.reduce, (1, 11, 13, 18, 28)),
    "ReduceLogSumExp": (reduce.reduce, (1, 11, 13, 18, 28)),
    "ReduceMax": (reduce.reduce, (1, 11, 12, 13, 18, 20)),
    "ReduceMean": (reduce.reduce, (1, 11, 13, 18)),
    "ReduceMin": (reduce.reduce, (1, 11, 12, 13, 18, 20)),
    "ReduceProd": (reduce.reduce, (1, 11, 13, 18)),
    "ReduceSum": (reduce.reduce, (1, 11, 13)),
    "ReduceSumSquare": (reduce.reduce, (1, 11, 13, 18)),
    "Reshape": (shapes.reshape, (5, 13, 14, *_TYPES_ADDED)),
    "Resize": (resize.resize, (10, 11, 13, 18, 19)),
    "ReverseSequence": (indexing.reverse_sequence, (10, 28)),
    "Scatter": (indexing.scatter_elements, (9, 11)),
    "ScatterElements": (indexing.scatter_elements, (11, 13, 16, 18)),
    "ScatterND": (indexing.scatter_nd, (11, 13, 16, 18)),
    "Selu": (elementwise.selu, (6, 22)),
    "Shape": (shapes.shape, (1, 13, 15, *_TYPES_ADDED)),
    "Shrink": (elementwise.shrink, (9,)),
    "Sinh": (elementwise.unary, (9, 22)),
    "Size": (shapes.size, (1, 13, *_TYPES_ADDED)),
    "Slice": (indexing.slice_, (1, 10, 11, 13)),
    "SpaceToDepth": (shapes.space_to_depth, (1, 13, 28)),
    "Split": (indexing.split, (2, 11, 13, 18)),
    "Squeeze": (shapes.squeeze, (1, 11, 13, 21, 23, 24, 25)),
    "Swish": (elementwise.swish, (24,)),
    "ThresholdedRelu": (elementwise.thresholded_relu, (10, 22)),
    "Tile": (shapes.tile, (6, 13)),
    "TopK": (reduce.top_k, (1, 10, 11, 24)),
    "Trilu": (indexing.triangle, (14,)),
    "Unsqueeze": (shapes.unsqueeze, (1, 11, 13, 21, 23, 24, 25)),
    "Upsample": (resize.resize, (7, 9)),
}

CONVERTERS: Mapping[tuple[str, int], Converter] = {
    (operator, version): converter
    for operator, (converter, versions) in _OWN.items()
    for version in versions
}
"""Converter of this package by operator and the version that introduced its present meaning."""

_SAME: Mapping[str, tuple[int, tuple[int, ...]]] = {
    "Acos": (7, (22,)),
    "Asin": (7, (22,)),
    "Atan": (7, (22,)),
    "Celu": (12, (28,)),
    "Cos": (7, (22,)),
    "Elu": (6, (22,)),
    "Equal": (13, (19,)),
    "EyeLike": (9, (22,)),
    "GreaterOrEqual": (12, (16,)),
    "HardSigmoid": (6, (22,)),
    "HardSwish": (14, (22,)),
    "Identity": (16, _TYPES_ADDED),
    "IsNaN": (13, (9, 20)),
    "LessOrEqual": (12, (16,)),
    "Max": (8, (6,)),
    "Mean": (8, (6,)),
    "Min": (8, (6,)),
    "RoiAlign": (16, (22,)),
    "Round": (11, (22,)),
    "Sin": (7, (22,)),
    "Softplus": (1, (22,)),
    "Softsign": (1, (22,)),
    "Sum": (8, (6,)),
    "Tan": (7, (22,)),
    "Transpose": (13, (21, 23, 24, 25)),
}

ALIASES: Mapping[tuple[str, int], int] = {
    (operator, version): known
    for operator, (known, versions) in _SAME.items()
    for version in versions
}
"""By operator and version: the version of onnx2torch's converter that computes the same.

Between the two only element types changed, as the test of this table derives from onnx.defs.
"""


def find_converter(domain: str, operator: str, opset: int) -> tuple[Converter, int]:
    """The converter of an operator, and the version that an opset gives it.

    Raises:
        CannotConvertError: if there is none.
    """
    if domain not in ("", "ai.onnx"):
        raise CannotConvertError(f"operators of the domain '{domain}' have no PyTorch counterpart")
    try:
        version = onnx.defs.get_schema(operator, opset, "").since_version
    except onnx.defs.SchemaError as error:
        raise CannotConvertError("it is no ONNX operator of this opset") from error
    key = (operator, version)
    if key in CONVERTERS:
        return CONVERTERS[key], version
    return stock(operator, ALIASES.get(key, version)), version
