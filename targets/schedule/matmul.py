"""Matrix product with constant weights, batched or not, on weights packed in column blocks."""

from math import ceil

import numpy as np
from tvm import relax, te, tirx

from crespr_onnx.targets.schedule import annotations as mark
from crespr_onnx.targets.schedule.batch_matmul import legalize_batch_matmul
from crespr_onnx.targets.schedule.call_kernel import call_kernel
from crespr_onnx.targets.schedule.constant_product import constant_product
from crespr_onnx.targets.schedule.index import flatten, unflatten
from crespr_onnx.targets.schedule.machine import Machine
from crespr_onnx.targets.schedule.products import MatrixProduct, tile_of, to_text
from crespr_onnx.targets.schedule.tiles import Tile


def legalize_matmul(
    machine: Machine, builder: relax.BlockBuilder, call: relax.Call
) -> relax.Expr | None:
    """Replace a float32 matmul by our kernel; None if none applies."""
    product = constant_product(call)
    if product is None:
        return legalize_batch_matmul(machine, builder, call)
    return emit_matmul(machine, builder, *product)


def emit_matmul(
    machine: Machine,
    builder: relax.BlockBuilder,
    data: relax.Expr,
    weight: np.ndarray,
    out_shape: list[int],
    reads: np.ndarray | None = None,
) -> relax.Expr:
    """A call of our kernel.

    Args:
        machine: the CPU.
        builder: of the function that calls it.
        data: [..., M, K], or [..., M, n] if each product reads a choice of the n.
        weight: [B, K, N].
        out_shape: [..., M, N] with B among the leading axes, or [M, B N].
        reads: positions in data that each product reads, [B, K].
    """
    shape = tuple(int(dim) for dim in data.ty.shape)
    product = MatrixProduct(shape, weight.shape, tuple(out_shape), reads is not None)
    tile = tile_of(machine, product)
    packed = relax.const(pack_weight(weight, tile.span))

    def matmul(x: te.Tensor, w: te.Tensor, chosen: te.Tensor | None = None) -> te.Tensor:
        return compute_matmul(x, w, product, tile, chosen)

    return call_kernel(builder, matmul, data, packed, reads)


def pack_weight(weight: np.ndarray, span: int) -> np.ndarray:
    """[B, K, N] -> [B, ceil(N/span), K, span], with zeros for the columns that are missing."""
    batches, depth, columns = weight.shape
    tiles = ceil(columns / span)
    padded = np.zeros((batches, depth, tiles * span), weight.dtype)
    padded[:, :, :columns] = weight
    parted = padded.reshape(batches, depth, tiles, span)
    return np.ascontiguousarray(parted.transpose(0, 2, 1, 3))


def compute_matmul(
    x: te.Tensor,
    w: te.Tensor,
    product: MatrixProduct,
    tile: Tile,
    reads: te.Tensor | None = None,
) -> te.Tensor:
    """The products of blocks of w, as `pack_weight` makes it, with x; see `emit_matmul`."""
    batches, tiles, depth = (int(dim) for dim in w.shape[:3])
    columns, out_shape = product.weight[2], product.out
    rows = int(np.prod(out_shape)) // (batches * columns)
    lead = [int(dim) for dim in x.shape[:-1]]
    k = te.reduce_axis((0, depth), name="k")

    def multiply(b, m, n):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        # Rows that only fill up the last tile repeat the last row.
        row = tirx.min(m, rows - 1) if rows % tile.rows else m
        if reads is None:
            value = x[*unflatten(b * rows + row, lead), k]
        else:
            value = x[*unflatten(row, lead), reads[b, k]]
        return te.sum(value * w[b, n // tile.span, k, n % tile.span], axis=k)

    flat = te.compute(
        (batches, ceil(rows / tile.rows) * tile.rows, tiles * tile.span),
        multiply,
        name="flat",
        attrs={
            mark.KERNEL: MatrixProduct.OP,
            mark.PRODUCT: to_text(product),
            mark.LANES: tile.lanes,
            mark.VECTORS: tile.vectors,
            mark.ROWS: tile.rows,
            mark.WORK: batches * rows * tiles * tile.span * depth,
        },
    )

    def gather(*index):  # type: ignore[no-untyped-def]  # noqa: ANN002, ANN202
        row = flatten(index[:-1], out_shape[:-1])
        if out_shape[-1] == columns:
            return flat[row // rows, row % rows, index[-1]]
        return flat[index[-1] // columns, row, index[-1] % columns]

    return te.compute(out_shape, gather, name="matmul")
