"""Re-fit: the weights that a mask leaves are solved for anew, layer after layer.

What a layer of the compressed model reads is no longer what the dense one's reads, and what the
weights that are gone contributed can in part be had from those that stay. Both are made up for by
least squares towards the dense layer's answers, in closed form, from unlabelled calibration data;
later layers see what the earlier ones have become.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from crespr_onnx.layout import BoolArray, ChannelGraph, WeightedEdge
from crespr_onnx.training.calibration import (
    MAX_INPUTS,
    Moments,
    MomentSums,
    width_of,
)
from crespr_onnx.training.importer import ImportedModel
from crespr_onnx.training.matrices import set_weight_matrix, weight_matrix
from crespr_onnx.training.objective import Batch
from crespr_onnx.training.offsets import Kind, Offset
from crespr_onnx.training.patches import row_blocks, why_unreadable
from crespr_onnx.training.second_order import DAMPING, fit, loss
from crespr_onnx.training.walk import Walk, execution_order, walk

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class LayerFit:
    """What the re-fit of one edge did.

    Attributes:
        edge: name of the edge.
        energy: E[y^2] of what the dense layer answers, summed over outputs.
        masked: mean squared distance to it, with the weights that were left.
        refitted: the same with the new ones.
    """

    edge: str
    energy: float
    masked: float
    refitted: float


@dataclass(frozen=True)
class Refit:
    """What a re-fit did.

    Attributes:
        layers: the edges that were re-fitted, in order.
        skipped: the others by name, with the reason.
    """

    layers: tuple[LayerFit, ...]
    skipped: Mapping[str, str]


def refit(
    dense: ImportedModel,
    compressed: ImportedModel,
    graph: ChannelGraph,
    masks: Mapping[str, BoolArray],
    offsets: Mapping[str, Offset],
    batches: Sequence[Batch],
    damping: float = DAMPING,
    done: Callable[[float], None] | None = None,
) -> Refit:
    """Solves for the kept weights and biases of all edges, in place.

    Args:
        dense: the model whose layers' answers are the goal.
        compressed: a model of the same shape whose weights are zero outside the masks. Mean and
            variance of a BatchNormalization right after an edge become those of its new answers.
        graph: channels of both.
        masks: per edge which connections are kept, shape [n_out, n_in]; any pattern.
        offsets: see `find_offsets`.
        batches: calibration data; only the inputs are read.
        damping: see `second_order.fit`.
        done: told the share of the edges that is behind.

    Returns:
        The loss of every layer before and after, and what was skipped.
    """
    uses = Counter(edge.weight for edge in graph.edges)
    layers, skipped = [], {}
    goal, present = walk(dense, batches), walk(compressed, batches)
    for i, edge in enumerate(execution_order(compressed, graph.edges)):
        if done is not None:
            done(i / len(graph.edges))
        reason = _why_not(compressed, edge, uses)
        offset = offsets.get(edge.name)
        moments = None
        if reason is None:
            moments = _paired(compressed, edge, present, goal, _outer_offset(dense, offset))
        if moments is None or not moments.is_finite:
            skipped[edge.name] = reason or "what it reads or answers is not finite"
            continue
        kept = _kept(masks[edge.name], edge, offset)
        start = np.where(kept, _with_offset(compressed, edge, offset), 0.0)
        fitted = fit(moments, start, kept, damping)
        _store(compressed, edge, offset, fitted, moments)
        losses = [float(loss(moments, w).sum()) for w in (start, fitted)]
        layers.append(LayerFit(edge.name, float(moments.energy.sum()), *losses))
    return Refit(tuple(layers), skipped)


def _why_not(imported: ImportedModel, edge: WeightedEdge, uses: Mapping[str, int]) -> str | None:
    reason = why_unreadable(imported, edge)
    if reason is not None:
        return reason
    if uses[edge.weight] > 1:
        return f"its weight '{edge.weight}' is shared with another operator"
    if width_of(edge) > MAX_INPUTS:
        return f"it has {width_of(edge)} inputs (times taps), more than {MAX_INPUTS}"
    return None


def _paired(
    compressed: ImportedModel, edge: WeightedEdge, present: Walk, goal: Walk, added: torch.Tensor
) -> Moments:
    """Moments of what the compressed layer reads and the dense one answers, offset and all."""
    sums = MomentSums(width_of(edge), len(edge.out_channels))
    rng = np.random.default_rng(0)
    for read, answers in zip(present.reads(edge), goal.answers(edge), strict=True):
        for x, y in row_blocks(compressed, edge, read, answers, rng):
            sums.add(x, y.double() + added)
    return sums.means()


def _outer_offset(imported: ImportedModel, offset: Offset | None) -> torch.Tensor:
    """What is added to the answers after the edge itself."""
    if offset is None or offset.kind is Kind.BIAS:
        return torch.zeros((), dtype=torch.float64)
    value = imported.tensor(offset.initializer).detach().double()
    return -value if offset.kind is Kind.MEAN else value


def _kept(mask: BoolArray, edge: WeightedEdge, offset: Offset | None) -> BoolArray:
    bias = np.full((len(mask), 1), offset is not None)
    return np.hstack([np.repeat(mask, edge.kernel, axis=1), bias])


def _with_offset(imported: ImportedModel, edge: WeightedEdge, offset: Offset | None) -> FloatArray:
    weight = weight_matrix(imported, edge)
    if offset is None:
        column = np.zeros(len(weight))
    else:
        column = imported.tensor(offset.initializer).detach().double().cpu().numpy()
        column = -column if offset.kind is Kind.MEAN else column
    return np.column_stack([weight, column])


def _store(
    imported: ImportedModel,
    edge: WeightedEdge,
    offset: Offset | None,
    fitted: FloatArray,
    moments: Moments,
) -> None:
    weight, column = fitted[:, :-1], fitted[:, -1]
    set_weight_matrix(imported, edge, weight)
    if offset is None:
        return
    values = {offset.initializer: column}
    if offset.kind is Kind.MEAN:
        # The layer's answers have become others: with the statistics of the old ones they would be
        # normalised wrongly, and all later layers be fitted to that.
        mean = moments.gram[-1, :-1]
        centred = moments.gram[:-1, :-1] - np.outer(mean, mean)
        variance = np.maximum(((weight @ centred) * weight).sum(axis=1), 0.0)
        values = {offset.initializer: weight @ mean, offset.variance: variance}
    with torch.no_grad():
        for name, value in values.items():
            imported.tensor(name).copy_(torch.from_numpy(value))
