"""What every importance criterion is, and what several of them share.

A connection joins one input position of an edge to one output position; its importance is summed
over the kernel. All importances are non-negative and, within one edge, comparable.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray

from crespr_onnx.layout import ChannelGraph, WeightedEdge
from crespr_onnx.training.importer import ImportedModel
from crespr_onnx.training.matrices import outputs_first
from crespr_onnx.training.objective import Batch, Objective

FloatArray = NDArray[np.float64]
Importance = Mapping[str, FloatArray]
"""Edge name -> importance of each connection, shape [n_out, n_in]."""


class Criterion(Protocol):
    """A way to tell which connections matter."""

    def score(
        self,
        imported: ImportedModel,
        graph: ChannelGraph,
        batches: Sequence[Batch],
        objective: Objective,
    ) -> Importance:
        """Importance of every connection of every edge.

        Args:
            imported: the model; its weights and gradients are afterwards as they were.
            graph: its channels.
            batches: calibration data, at least one batch.
            objective: the loss.

        Returns:
            Edge name -> non-negative scores, float64 of shape [n_out, n_in], for every edge.
        """
        ...


def connections(imported: ImportedModel, edge: WeightedEdge, tensor: torch.Tensor) -> FloatArray:
    """A weight-shaped tensor as [n_out, n_in], summed over the kernel."""
    array = tensor.detach().double().cpu().numpy()
    kernel_axes = tuple(range(2, array.ndim))
    summed = array.sum(axis=kernel_axes) if kernel_axes else array
    return np.ascontiguousarray(summed if outputs_first(imported, edge) else summed.T)


def weight_energy(model: ir.Model, graph: ChannelGraph) -> Importance:
    """|w|^2 from the ONNX weights alone, for runs without data."""
    scores = {}
    for edge in graph.edges:
        value = model.graph.initializers[edge.weight]
        assert value.const_value is not None
        weight = value.const_value.numpy().astype(np.float64)
        summed = (weight**2).sum(axis=tuple(range(2, weight.ndim)))
        scores[edge.name] = summed if (edge.out_axis, edge.in_axis) == (0, 1) else summed.T
    return scores
