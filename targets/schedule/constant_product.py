"""What a matmul with constant weights is made of, whatever kernel computes it."""

import numpy as np
import tvm
from tvm import relax


def constant_product(call: relax.Call) -> tuple[relax.Expr, np.ndarray, list[int]] | None:
    """Data, weights [B, K, N] and shape of the result of a float32 matmul with constant weights.

    None for any other, and where the products of a batch are not those of the data's leading axes.
    """
    data, kernel = call.args
    if not isinstance(kernel, tvm.ir.GenericConst) or str(data.ty.dtype) != "float32":
        return None
    weight = kernel.value.numpy()
    shape, out_shape = [int(dim) for dim in data.ty.shape], [int(dim) for dim in call.ty.shape]
    lead = shape[:-2]
    while weight.ndim > 2 and weight.shape[0] == 1 and len(lead) >= weight.ndim - 2:
        weight = weight[0]
    if len(shape) < 2 or weight.ndim < 2 or weight.dtype != np.float32:
        return None
    if weight.ndim > 2 and list(weight.shape[:-2]) != lead:
        return None
    return data, weight.reshape(-1, *weight.shape[-2:]), out_shape
