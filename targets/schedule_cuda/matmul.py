"""Matrix product of few rows with constant weights, batched or not: each product may pick what it
reads, as the clusters of a split layer do.
"""

import numpy as np
from tvm import relax, te

from crespr_onnx.targets.schedule import annotations as mark
from crespr_onnx.targets.schedule.call_kernel import call_kernel
from crespr_onnx.targets.schedule.constant_product import constant_product
from crespr_onnx.targets.schedule.index import flatten, unflatten

MOST_ROWS = 8
"""With more, a tiled product that uses what it has loaded more than once is the better kernel."""


def legalize_matmul(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr | None:
    """Replace a matmul with constant float32 weights by our kernel; None if it does not apply."""
    product = constant_product(call)
    if product is None:
        return None
    data, blocks, out_shape = product
    if int(np.prod(out_shape)) // (len(blocks) * blocks.shape[2]) > MOST_ROWS:
        return None
    return emit_matmul(builder, data, blocks, out_shape)


def emit_matmul(
    builder: relax.BlockBuilder,
    data: relax.Expr,
    weight: np.ndarray,
    out_shape: list[int],
    reads: np.ndarray | None = None,
) -> relax.Expr:
    """A call of our kernel.

    Args:
        builder: of the function that calls it.
        data: [..., M, K], or [..., M, n] if each product reads a choice of the n.
        weight: [B, K, N].
        out_shape: [..., M, N] with B among the leading axes, or [M, B N].
        reads: positions in data that each product reads, [B, K].
    """
    columns = weight.shape[2]
    # The threads of a warp share a sum: what they read side by side must lie side by side.
    packed = relax.const(np.ascontiguousarray(weight.transpose(0, 2, 1)))

    def matmul(x: te.Tensor, w: te.Tensor, chosen: te.Tensor | None = None) -> te.Tensor:
        return compute_matmul(x, w, columns, out_shape, chosen)

    return call_kernel(builder, matmul, data, packed, reads)


def compute_matmul(
    x: te.Tensor,
    w: te.Tensor,
    columns: int,
    out_shape: list[int],
    reads: te.Tensor | None = None,
) -> te.Tensor:
    """The products of blocks of w [B, N, K] with x; see `emit_matmul`."""
    batches, _, depth = (int(dim) for dim in w.shape)
    rows = int(np.prod(out_shape)) // (batches * columns)
    lead = [int(dim) for dim in x.shape[:-1]]
    k = te.reduce_axis((0, depth), name="k")

    def multiply(*index):  # type: ignore[no-untyped-def]  # noqa: ANN002, ANN202
        row = flatten(index[:-1], out_shape[:-1])
        if out_shape[-1] == columns:
            batch, row, column = row // rows, row % rows, index[-1]
        else:
            batch, column = index[-1] // columns, index[-1] % columns
        if reads is None:
            value = x[*unflatten(batch * rows + row, lead), k]
        else:
            value = x[*unflatten(row, lead), reads[batch, k]]
        return te.sum(value * w[batch, column, k], axis=k)

    return te.compute(tuple(out_shape), multiply, name="matmul", attrs={mark.KERNEL: "matmul"})
