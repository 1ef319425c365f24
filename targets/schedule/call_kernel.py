"""Calling a kernel of ours: its data, its weights, and perhaps what it picks of the data."""

from collections.abc import Callable

import numpy as np
from tvm import relax, te

from crespr_onnx.targets.schedule import annotations as mark


def call_kernel(
    builder: relax.BlockBuilder,
    compute: Callable[..., te.Tensor],
    data: relax.Expr,
    weight: relax.Expr,
    reads: np.ndarray | None,
) -> relax.Expr:
    """A call behind which element-wise operators can be fused.

    Args:
        builder: of the function that calls it.
        compute: the kernel's computation of data, weight and, if given, reads; its name is the
            kernel's.
        data: what it reads.
        weight: a constant, as the kernel wants it.
        reads: positions that it picks.
    """
    constants = [weight]
    if reads is not None:
        constants.append(relax.const(np.ascontiguousarray(reads, np.int32)))
    return builder.call_te(
        compute,
        data,
        *constants,
        primfunc_name_hint=compute.__name__,
        primfunc_attrs={"op_pattern": mark.OUT_ELEMENTWISE_FUSABLE},
    )
