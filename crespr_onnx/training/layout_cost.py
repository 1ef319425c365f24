"""What layouts cost, by the Hessian: a way to compare layouts of any cluster counts and widths."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from crespr_onnx.layout import BoolArray, ChannelGraph
from crespr_onnx.training.calibration import MAX_INPUTS, stream_moments, width_of
from crespr_onnx.training.importer import ImportedModel
from crespr_onnx.training.matrices import weight_matrix
from crespr_onnx.training.objective import Batch
from crespr_onnx.training.patches import why_unreadable
from crespr_onnx.training.second_order import DAMPING, cut_cost

FloatArray = NDArray[np.float64]


def lost_shares(
    imported: ImportedModel,
    graph: ChannelGraph,
    candidates: Sequence[Mapping[str, BoolArray]],
    batches: Sequence[Batch],
    damping: float = DAMPING,
) -> list[Mapping[str, float]]:
    """The share of each edge's answers that is lost under each of several sets of masks.

    The loss of `second_order.cut_cost`, once the kept weights and the bias are the best possible,
    over the variance of what the edge answers; outputs that keep no connection are left out of
    both, for nobody reads them. 0 is no loss, 1 is no better than a constant.

    Args:
        imported: the dense model.
        graph: its channels.
        candidates: sets of masks, each with one per edge, shape [n_out, n_in].
        batches: calibration data; the Hessian of a layer serves all candidates.
        damping: see `second_order.damped`.

    Returns:
        Per candidate, edge name -> share; edges without a Hessian (see `criteria.Hessian`) are
        missing.
    """
    edges = [
        e for e in graph.edges if why_unreadable(imported, e) is None and width_of(e) <= MAX_INPUTS
    ]
    shares: list[dict[str, float]] = [{} for _ in candidates]
    for edge, moments in stream_moments(imported, edges, batches):
        if not moments.is_finite:
            continue
        weight = weight_matrix(imported, edge)
        mean = moments.gram[-1, :-1]
        centred = moments.gram[:-1, :-1] - np.outer(mean, mean)
        variance = ((weight @ centred) * weight).sum(axis=1)
        # The bias is free: the last column is of no consequence, and always kept.
        whole = np.column_stack([weight, np.zeros(len(weight))])
        free = np.ones((len(weight), 1), dtype=np.bool_)
        for found, masks in zip(shares, candidates, strict=True):
            mask = masks[edge.name]
            read = mask.any(axis=1)
            kept = np.hstack([np.repeat(mask, edge.kernel, axis=1), free])
            cost = cut_cost(whole[read], moments.gram, kept[read], damping).sum()
            total = float(variance[read].sum())
            found[edge.name] = min(float(cost) / total, 1.0) if total > 0 else 0.0
    return list(shares)
