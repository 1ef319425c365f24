"""Activation functions that vectorise: TVM calls the C library for each element.

TVM's polynomials and rational functions differ from the exact values by less than 3e-7 of them.
"""

from collections.abc import Callable

from tvm import relax, te, tirx, topi

from crespr_onnx.targets.schedule.machine import Machine


def fast_sigmoid(x: te.Tensor) -> te.Tensor:
    """1 / (1 + exp(-x)), element by element."""
    one = tirx.const(1, x.dtype)
    exponential = topi.fast_exp(topi.negative(x))
    return te.compute(x.shape, lambda *i: one / (one + exponential(*i)), name="sigmoid")


FAST: dict[str, Callable[[te.Tensor], te.Tensor]] = {
    "relax.sigmoid": fast_sigmoid,
    "relax.tanh": topi.fast_tanh,
    "relax.exp": topi.fast_exp,
    "relax.erf": topi.fast_erf,
}


def legalize_activation(
    machine: Machine, builder: relax.BlockBuilder, call: relax.Call
) -> relax.Expr | None:
    """Replace a float32 activation by its fast form; None if it does not apply."""
    if str(call.args[0].ty.dtype) != "float32":
        return None
    name = call.op.name
    return builder.call_te(FAST[name], call.args[0], primfunc_name_hint=name.split(".")[-1])
