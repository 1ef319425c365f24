"""Layer normalisation over the last axis, row by row (Ba, Kiros, Hinton 2016, arXiv 1607.06450)."""

from tvm import relax, te, tirx

from crespr_onnx.targets.schedule import annotations as mark
from crespr_onnx.targets.schedule.index import static_shape
from crespr_onnx.targets.schedule.machine import Machine
from crespr_onnx.targets.schedule.rows import SUM, fold_rows, width_for


def legalize_layer_norm(
    machine: Machine, builder: relax.BlockBuilder, call: relax.Call
) -> relax.Expr | None:
    """Replace a float32 layer_norm by our kernel; None if it does not apply."""
    shape, attrs = static_shape(call.args[0]), call.attrs
    if shape is None or len(shape) < 2 or not (attrs.center and attrs.scale):
        return None
    if [int(axis) % len(shape) for axis in attrs.axes] != [len(shape) - 1]:
        return None

    def layer_norm(x: te.Tensor, gain: te.Tensor, offset: te.Tensor) -> te.Tensor:
        return compute_layer_norm(machine, x, gain, offset, float(attrs.epsilon))

    attributes = {"op_pattern": mark.OUT_ELEMENTWISE_FUSABLE}
    return builder.call_te(
        layer_norm, *call.args, primfunc_name_hint="layer_norm", primfunc_attrs=attributes
    )


def compute_layer_norm(
    machine: Machine, x: te.Tensor, gain: te.Tensor, offset: te.Tensor, epsilon: float
) -> te.Tensor:
    """(x - mean) / sqrt(variance + epsilon) * gain + offset; the variance is that of x - mean."""
    lead, length = [int(d) for d in x.shape[:-1]], int(x.shape[-1])
    lanes = width_for(machine, length)
    part = tirx.const(1 / length, x.dtype)
    stage = {mark.STAGE: 1}
    total = fold_rows(SUM, lead, length, lanes, lambda i, j: x[*i, j], "total")
    mean = te.compute(lead, lambda *i: total(*i) * part, name="mean", attrs=stage)

    def squared(i, j):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        return (x[*i, j] - mean(*i)) * (x[*i, j] - mean(*i))

    square = fold_rows(SUM, lead, length, lanes, squared, "square")
    scale = te.compute(
        lead,
        lambda *i: (
            tirx.const(1, x.dtype) / tirx.sqrt(square(*i) * part + tirx.const(epsilon, x.dtype))
        ),
        name="scale",
        attrs=stage,
    )
    return te.compute(
        x.shape,
        lambda *i: (x(*i) - mean(*i[:-1])) * scale(*i[:-1]) * gain(i[-1]) + offset(i[-1]),
        name="layer_norm",
    )
