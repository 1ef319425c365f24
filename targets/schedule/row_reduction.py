"""Sums, means and extrema over the last axes."""

from math import prod
from typing import NamedTuple

from tvm import relax, te, tirx

from crespr_onnx.targets.schedule import annotations as mark
from crespr_onnx.targets.schedule.index import static_shape, unflatten
from crespr_onnx.targets.schedule.machine import Machine
from crespr_onnx.targets.schedule.rows import MAX, MIN, SUM, Fold, fold_rows, width_for


class Reduction(NamedTuple):
    """How an operator reduces a row, and whether it divides by the row's length."""

    fold: Fold
    mean: bool = False


REDUCTIONS = {
    "relax.sum": Reduction(SUM),
    "relax.mean": Reduction(SUM, mean=True),
    "relax.max": Reduction(MAX),
    "relax.min": Reduction(MIN),
}


def legalize_row_reduction(
    machine: Machine, builder: relax.BlockBuilder, call: relax.Call
) -> relax.Expr | None:
    """Replace a float32 reduction over the last axes by our kernel; None if it does not apply."""
    shape = static_shape(call.args[0])
    if shape is None or call.attrs.axis is None:
        return None
    reduction, keep = REDUCTIONS[call.op.name], bool(call.attrs.keepdims)
    axes = sorted(int(axis) % len(shape) for axis in call.attrs.axis)
    first = len(shape) - len(axes)
    if not axes or first == 0 or axes != list(range(first, len(shape))):
        return None
    if prod(shape[first:]) < machine.widths[-1]:
        return None

    def reduce(x: te.Tensor) -> te.Tensor:
        return compute_row_reduction(machine, x, first, reduction, keep)

    attributes = {"op_pattern": mark.OUT_ELEMENTWISE_FUSABLE}
    name = call.op.name.split(".")[-1]
    return builder.call_te(reduce, call.args[0], primfunc_name_hint=name, primfunc_attrs=attributes)


def compute_row_reduction(
    machine: Machine, x: te.Tensor, first: int, reduction: Reduction, keep: bool
) -> te.Tensor:
    """x reduced over its axes from `first` on; if they are kept, they have length 1."""
    shape = [int(d) for d in x.shape]
    lead, row = shape[:first], shape[first:]
    length = prod(row)
    folded = fold_rows(
        reduction.fold,
        lead,
        length,
        width_for(machine, length),
        lambda i, j: x[*i, *unflatten(j, row)],
        "row",
    )
    part = tirx.const(1 / length if reduction.mean else 1, x.dtype)
    out_shape = lead + ([1] * len(row) if keep else [])
    return te.compute(out_shape, lambda *i: folded(*i[:first]) * part, name="reduced")
