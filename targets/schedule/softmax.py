"""Softmax over the last axis, row by row."""

from tvm import relax, te, tirx, topi

from crespr_onnx.targets.schedule import annotations as mark
from crespr_onnx.targets.schedule.index import static_shape
from crespr_onnx.targets.schedule.machine import Machine
from crespr_onnx.targets.schedule.rows import MAX, SUM, fold_rows, width_for


def legalize_softmax(
    machine: Machine, builder: relax.BlockBuilder, call: relax.Call
) -> relax.Expr | None:
    """Replace a float32 softmax, or its logarithm, by our kernel; None if it does not apply."""
    shape = static_shape(call.args[0])
    if shape is None or len(shape) < 2 or int(call.attrs.axis) % len(shape) != len(shape) - 1:
        return None
    logarithm = call.op.name == "relax.nn.log_softmax"

    def softmax(x: te.Tensor) -> te.Tensor:
        return compute_softmax(machine, x, logarithm)

    attributes = {"op_pattern": mark.OUT_ELEMENTWISE_FUSABLE}
    return builder.call_te(
        softmax, call.args[0], primfunc_name_hint="softmax", primfunc_attrs=attributes
    )


def compute_softmax(machine: Machine, x: te.Tensor, logarithm: bool = False) -> te.Tensor:
    """exp(x - m) / sum of the same, m being the largest of a row; or the logarithm of it."""
    lead, length = [int(d) for d in x.shape[:-1]], int(x.shape[-1])
    lanes = width_for(machine, length)
    stage = {mark.STAGE: 1}
    peak = fold_rows(MAX, lead, length, lanes, lambda i, j: x[*i, j], "peak")
    shifted = te.compute(x.shape, lambda *i: x(*i) - peak(*i[:-1]), name="shifted")
    fast = topi.fast_exp(shifted)
    power = te.compute(x.shape, lambda *i: fast(*i), name="power", attrs=stage)
    total = fold_rows(SUM, lead, length, lanes, lambda i, j: power[*i, j], "total")
    if logarithm:
        base = te.compute(lead, lambda *i: peak(*i) + tirx.log(total(*i)), name="base", attrs=stage)
        return te.compute(x.shape, lambda *i: x(*i) - base(*i[:-1]), name="log_softmax")
    share = te.compute(
        lead, lambda *i: tirx.const(1, x.dtype) / total(*i), name="share", attrs=stage
    )
    return te.compute(x.shape, lambda *i: power(*i) * share(*i[:-1]), name="softmax")
