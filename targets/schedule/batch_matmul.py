"""Products of two activations, as in attention.

The right factor is read as it lies where its rows are whole register tiles; otherwise its rows are
first copied to such a length, by a function into which the transpose in front of it is fused.
"""

from math import ceil, prod

from tvm import relax, te, tirx

from crespr_onnx.targets.schedule import annotations as mark
from crespr_onnx.targets.schedule.index import flatten, static_shape, unflatten
from crespr_onnx.targets.schedule.machine import Machine
from crespr_onnx.targets.schedule.tiles import Problem, Tile, choose_tile


def legalize_batch_matmul(
    machine: Machine, builder: relax.BlockBuilder, call: relax.Call
) -> relax.Expr | None:
    """Replace a float32 matmul of two activations by our kernel; None if it does not apply.

    It applies to [..., M, K] and [..., K, N] where the left factor has all the leading axes of the
    result, and the right factor has the same ones or only axes of length 1.
    """
    left, right = call.args
    shapes = [static_shape(value) for value in (left, right, call)]
    if any(shape is None or len(shape) < 2 for shape in shapes):
        return None
    a, b, out = (shape or [] for shape in shapes)
    if a[:-2] != out[:-2] or (b[:-2] != out[:-2] and prod(b[:-2]) != 1):
        return None
    rows, columns, depth = a[-2], b[-1], a[-1]
    tile = choose_tile(machine, Problem(columns, rows, depth, max_rows=8, apart=True))
    whole = ceil(columns / tile.span) * tile.span
    if whole != columns:

        def lengthen(x: te.Tensor) -> te.Tensor:
            return lengthen_rows(x, whole)

        right = builder.emit(builder.call_te(lengthen, right, primfunc_name_hint="lengthen"))

    def matmul(x: te.Tensor, w: te.Tensor) -> te.Tensor:
        return compute_batch_matmul(x, w, columns, tile)

    attributes = {"op_pattern": mark.OUT_ELEMENTWISE_FUSABLE}
    return builder.call_te(
        matmul, left, right, primfunc_name_hint="matmul", primfunc_attrs=attributes
    )


def lengthen_rows(x: te.Tensor, length: int) -> te.Tensor:
    """x [..., N] -> [..., length], with zeros behind each row."""
    columns = int(x.shape[-1])
    return te.compute(
        (*x.shape[:-1], length),
        lambda *i: tirx.if_then_else(i[-1] < columns, x(*i), tirx.const(0, x.dtype)),
        name="lengthened",
        attrs={mark.KERNEL: "lengthen"},
    )


def compute_batch_matmul(x: te.Tensor, w: te.Tensor, columns: int, tile: Tile) -> te.Tensor:
    """x [..., M, K], w [..., K, whole tiles] -> [..., M, columns]."""
    lead, (rows, depth) = [int(d) for d in x.shape[:-2]], [int(d) for d in x.shape[-2:]]
    right = [int(d) for d in w.shape[:-2]]
    batches, length = prod(lead), int(w.shape[-1])
    k = te.reduce_axis((0, depth), name="k")

    def multiply(b, m, n):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        # Rows that only fill up the last tile repeat the last row.
        row = tirx.min(m, rows - 1) if rows % tile.rows else m
        at = unflatten(b if prod(right) > 1 else tirx.const(0, "int64"), right)
        return te.sum(x[*unflatten(b, lead), row, k] * w[*at, k, n], axis=k)

    flat = te.compute(
        (batches, ceil(rows / tile.rows) * tile.rows, length),
        multiply,
        name="flat",
        attrs={
            mark.KERNEL: "matmul",
            mark.LANES: tile.lanes,
            mark.VECTORS: tile.vectors,
            mark.ROWS: tile.rows,
            mark.WORK: batches * rows * length * depth,
        },
    )
    return te.compute(
        (*lead, rows, columns), lambda *i: flat[flatten(i[:-2], lead), i[-2], i[-1]], name="matmul"
    )
