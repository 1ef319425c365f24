"""The rules by which a layer hands the relevance of its outputs to its inputs.

Each is written with gradients: in the sum z_j = sum_i x_i w_ij, the share of the term i is the
input times the derivative by the input, or, summed over all that share a weight, the weight times
the derivative by the weight (Montavon et al. 2019, "Layer-wise relevance propagation: an
overview"). No parameter's own gradient is touched.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

EPSILON = 1e-6
"""Added to the size of what is divided by, in the epsilon rule; from arXiv 1912.08881."""
_TINY = 1e-9
"""The same in the z+ rule, where it only keeps 0/0 from happening."""

Form = Callable[[Tensor, Tensor], Tensor]
"""What a layer computes of its input and weight, without its bias: linear in either."""


@dataclass(frozen=True, eq=False)
class Share:
    """What became of the relevance at the output of a layer.

    Attributes:
        inputs: relevance of the input, shaped like it.
        weights: relevance that flowed through each weight, summed over all samples and positions,
            shaped like the weight.
    """

    inputs: Tensor
    weights: Tensor


def stabilised(z: Tensor, epsilon: float) -> Tensor:
    """A divisor that is not zero: z moved away from it by epsilon."""
    return z + torch.where(z >= 0, epsilon, -epsilon)


def positive_rule(
    form: Form,
    x: Tensor,
    weight: Tensor,
    relevance: Tensor,
    sign: Tensor,
    any_input: bool = False,
) -> Share:
    """The z+ rule: R_i = sum_j (x_i w_ij)^+ / (sum_i (x_i w_ij)^+) R_j.

    The alpha-beta rule of Bach et al. 2015 (equation 60) with alpha 1 and beta 0. The bias takes
    part in nothing, so relevance is conserved wherever an output has a positive term; elsewhere it
    is lost.

    Args:
        form: what the layer computes without bias.
        x: input.
        weight: weight.
        relevance: of the output.
        sign: of the scale that a BatchNorm puts on the output, broadcastable to it: where it is
            negative, the positive terms of the scaled sum are the negative ones of this.
        any_input: take x_i w_ij^+ instead of (x_i w_ij)^+: the same where no input is negative,
            elsewhere neither positive nor bounded.
    """
    rise, fall = weight.clamp(min=0), weight.clamp(max=0)
    up, down = (x, torch.zeros_like(x)) if any_input else (x.clamp(min=0), x.clamp(max=0))
    share = _divide(form, ((up, rise), (down, fall)), torch.where(sign >= 0, relevance, 0.0))
    if bool((sign < 0).any()):
        mirrored = torch.where(sign < 0, relevance, 0.0)
        other = _divide(form, ((up, fall), (down, rise)), mirrored)
        share = Share(share.inputs + other.inputs, share.weights + other.weights)
    return share


def _divide(form: Form, terms: Sequence[tuple[Tensor, Tensor]], relevance: Tensor) -> Share:
    """Divides relevance in proportion to the terms of sums, which all have the same sign."""
    leaves = [
        (a.detach().requires_grad_(), b.detach().requires_grad_())
        for a, b in terms
        if bool(a.any()) and bool(b.any())
    ]
    if not leaves:
        (a, b), *_ = terms
        return Share(torch.zeros_like(a), torch.zeros_like(b))
    with torch.enable_grad():
        z = torch.stack([form(a, b) for a, b in leaves]).sum(0)
    pull = relevance / stabilised(z.detach(), _TINY)
    flat = [leaf for pair in leaves for leaf in pair]
    grads = torch.autograd.grad(z, flat, pull)
    shares = [leaf.detach() * grad for leaf, grad in zip(flat, grads, strict=True)]
    return Share(torch.stack(shares[::2]).sum(0), torch.stack(shares[1::2]).sum(0))


def epsilon_rule(
    form: Form, x: Tensor, weight: Tensor, relevance: Tensor, scale: Tensor, output: Tensor
) -> Share:
    """The epsilon rule: R_i = sum_j x_i w_ij / (z_j + epsilon sign(z_j)) R_j, z_j with its bias.

    Bach et al. 2015, equation 58. The bias keeps its share b_j / z_j of the relevance, which does
    not reach any input.

    Args:
        form: what the layer computes without bias.
        x: input.
        weight: weight.
        relevance: of the output.
        scale: that a BatchNorm puts on the output, broadcastable to it.
        output: z_j, with bias and BatchNorm.
    """
    a, b = x.detach().requires_grad_(), weight.detach().requires_grad_()
    with torch.enable_grad():
        z = form(a, b)
    by_x, by_weight = torch.autograd.grad(
        z, (a, b), relevance * scale / stabilised(output, EPSILON)
    )
    return Share(x * by_x, weight.detach() * by_weight)


def gradient_rule(
    function: Callable[..., Tensor | Sequence[Tensor | None]],
    inputs: Sequence[Tensor],
    relevance: Sequence[Tensor | None],
    divide: bool,
) -> list[Tensor]:
    """What reaches each of several inputs of any operator.

    Args:
        function: the operator as a function of these inputs.
        inputs: floating-point tensors.
        relevance: of each output, None where there is none.
        divide: True for the epsilon rule R_in = x * vjp(f, x, R_out / f(x)), f(x) stabilised; False
            for operators that only move elements, through which relevance moves like a gradient.
    """
    leaves = [x.detach().requires_grad_() for x in inputs]
    with torch.enable_grad():
        result = function(*leaves)
    outputs = result if isinstance(result, list | tuple) else [result]
    pairs = [
        (z, r if not divide else r / stabilised(z.detach(), EPSILON))
        for z, r in zip(outputs, relevance, strict=True)
        if r is not None and z is not None and z.requires_grad
    ]
    if not pairs:
        return [torch.zeros_like(x) for x in inputs]
    grads = torch.autograd.grad(
        [z for z, _ in pairs], leaves, [pull for _, pull in pairs], allow_unused=True
    )
    found = [torch.zeros_like(x) if g is None else g for x, g in zip(inputs, grads, strict=True)]
    return [x * g for x, g in zip(inputs, found, strict=True)] if divide else found
