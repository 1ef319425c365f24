"""What a layer loses when some of its weights go, and the best use of those that stay.

The loss of a layer is E[(y - w x)^2], summed over its outputs: a quadratic function of w with the
Hessian H = E[x x^T] (times two), the same one for all outputs. Hence closed forms: LeCun et al.
1989 (Optimal Brain Damage), Hassibi and Stork 1992 (Optimal Brain Surgeon), and layer by layer as
here Frantar and Alistarh 2022 (arXiv 2208.11580, section 4). x ends with a 1, which the bias reads.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from crespr_onnx.layout import BoolArray, IntArray
from crespr_onnx.training.calibration import Moments

FloatArray = NDArray[np.float64]

DAMPING = 0.01
"""What is added to the diagonal of a Hessian, as a share of its mean."""


def damped(gram: FloatArray, damping: float = DAMPING) -> FloatArray:
    """A Hessian that can be inverted, whatever inputs are dead or depend on each other.

    The entry of the bias is left as it is: a mean is known well from any number of samples.

    Args:
        gram: E[x x^T], shape [n + 1, n + 1].
        damping: what is added to the diagonal, relative to its mean.
    """
    result: FloatArray = gram + np.diag(_ridge(gram, damping))
    return result


def _ridge(gram: FloatArray, damping: float) -> FloatArray:
    """What is added to the diagonal; where nothing is ever read, any number serves."""
    n = len(gram) - 1
    mean = float(np.diag(gram)[:n].mean()) if n else 0.0
    ridge = np.full(n + 1, damping * mean if mean > 0 else 1.0)
    ridge[n] = 0.0
    return ridge


def saliency(weight: FloatArray, gram: FloatArray, taps: int, damping: float) -> FloatArray:
    """Loss when one connection goes and all other weights of its output make the best of it.

    w_b ([H^-1]_bb)^-1 w_b^T, where b are the taps of the connection: Optimal Brain Surgeon for
    blocks (arXiv 2208.11580, section 4, "group-OBS").

    Args:
        weight: shape [m, inputs * taps].
        gram: E[x x^T], shape [inputs * taps + 1] twice.
        taps: weights per connection.
        damping: see `damped`.

    Returns:
        Shape [m, inputs].
    """
    n = weight.shape[1]
    inverse = _solve(damped(gram, damping), np.eye(n + 1))[:n, :n]
    inputs = np.arange(n // taps)
    blocks = inverse.reshape(n // taps, taps, n // taps, taps)[inputs, :, inputs, :]
    by_input = weight.reshape(len(weight), -1, taps)
    costs: FloatArray = np.einsum("jia,iab,jib->ji", by_input, np.linalg.inv(blocks), by_input)
    return costs


def fit(
    moments: Moments, start: FloatArray, kept: BoolArray, damping: float = DAMPING
) -> FloatArray:
    """The weights with the least loss among those that are zero wherever they are not kept.

    W'[R,S] = (E[y x^T][R,S] + W[R,S] L) (H[S,S] + L)^-1 for every set R of outputs that keep the
    same inputs S, worked out as a change of W: least squares with a ridge L around the weights at
    hand. So the loss is never above theirs, and a weight that the data says nothing about stays.

    Args:
        moments: of the layer, of n inputs.
        start: the weights at hand, the last column the bias, shape [m, n + 1].
        kept: which of them may differ from zero, same shape.
        damping: L, relative to the mean diagonal of H; the bias is not held back.

    Returns:
        New weights, shape [m, n + 1].
    """
    ridge = _ridge(moments.gram, damping)
    result = np.zeros_like(start)
    for rows, pattern in _alike(kept):
        columns = np.flatnonzero(pattern)
        if not len(columns):
            continue
        here = np.ix_(rows, columns)
        hessian = moments.gram[np.ix_(columns, columns)] + np.diag(ridge[columns])
        error = moments.cross[here] - start[here] @ moments.gram[np.ix_(columns, columns)]
        result[here] = start[here] + _solve(hessian, error)
    return result


def _alike(kept: BoolArray) -> Iterator[tuple[IntArray, BoolArray]]:
    """Outputs that keep the same inputs, and which these are: one inverse serves all of them."""
    patterns, pattern_of = np.unique(kept, axis=0, return_inverse=True)
    for p, pattern in enumerate(patterns):
        yield np.flatnonzero(pattern_of.reshape(-1) == p), pattern


def _solve(hessian: FloatArray, rows: FloatArray) -> FloatArray:
    """rows @ hessian^-1, or the shortest of all solutions where the Hessian has no inverse."""
    try:
        solved: FloatArray = linalg.cho_solve(linalg.cho_factor(hessian), rows.T).T
    except linalg.LinAlgError:
        solved = linalg.lstsq(hessian, rows.T)[0].T
    return solved


def loss(moments: Moments, weight: FloatArray) -> FloatArray:
    """E[(y - w x)^2] of every output, shape [m], for weights of shape [m, n + 1]."""
    fitted: FloatArray = (
        moments.energy
        - 2.0 * (weight * moments.cross).sum(axis=1)
        + ((weight @ moments.gram) * weight).sum(axis=1)
    )
    return fitted


def cut_cost(
    weight: FloatArray, gram: FloatArray, kept: BoolArray, damping: float = DAMPING
) -> FloatArray:
    """Loss of every output once some weights are gone and the others are the best possible.

    w_P ([H^-1]_PP)^-1 w_P^T with P the weights that go, worked out by its equal
    w_P (H_PP - H_PS H_SS^-1 H_SP) w_P^T with S those that stay: S is the smaller set.

    Args:
        weight: shape [m, n + 1], the last column the bias.
        gram: E[x x^T], shape [n + 1, n + 1].
        kept: which weights stay, shape [m, n + 1].
        damping: see `damped`.

    Returns:
        Shape [m].
    """
    hessian = damped(gram, damping)
    cost = np.zeros(len(weight))
    for rows, pattern in _alike(kept):
        gone, stay = np.flatnonzero(~pattern), np.flatnonzero(pattern)
        lost = weight[rows][:, gone]
        effect = lost @ hessian[gone]
        cost[rows] = (effect[:, gone] * lost).sum(axis=1)
        if len(stay):
            pull = effect[:, stay]
            cost[rows] -= (_solve(hessian[np.ix_(stay, stay)], pull) * pull).sum(axis=1)
    return np.maximum(cost, 0.0)
