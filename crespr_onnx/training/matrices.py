"""Weights of edges as matrices, and what has a number per connection in the axes of weights.

A matrix is float64 of shape [n_out, n_in * kernel], taps innermost.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from crespr_onnx.layout import BoolArray, WeightedEdge
from crespr_onnx.training.importer import ImportedModel

FloatArray = NDArray[np.float64]


def weight_matrix(imported: ImportedModel, edge: WeightedEdge) -> FloatArray:
    """The weights of an edge as a matrix."""
    weight = imported.tensor(edge.weight).detach().double().cpu().numpy()
    oriented = weight if outputs_first(imported, edge) else weight.swapaxes(0, 1)
    return np.ascontiguousarray(oriented.reshape(len(oriented), -1))


def set_weight_matrix(imported: ImportedModel, edge: WeightedEdge, matrix: FloatArray) -> None:
    """Gives an edge the weights of a matrix, in place."""
    parameter = imported.tensor(edge.weight)
    shape = tuple(parameter.shape)
    if outputs_first(imported, edge):
        oriented = matrix.reshape(shape)
    else:
        oriented = matrix.reshape(shape[1], shape[0], *shape[2:]).swapaxes(0, 1)
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(np.ascontiguousarray(oriented)))


def weight_mask(imported: ImportedModel, edge: WeightedEdge, mask: BoolArray) -> torch.Tensor:
    """A mask of connections, [n_out, n_in], in the axes of the stored weight, one for all taps."""
    oriented = np.ascontiguousarray(mask if outputs_first(imported, edge) else mask.T)
    taps = [1] * (imported.tensor(edge.weight).ndim - 2)
    return torch.from_numpy(oriented).reshape(*oriented.shape, *taps)


def outputs_first(imported: ImportedModel, edge: WeightedEdge) -> bool:
    """Whether the first axis of an edge's weight, as the module stores it, is that of outputs."""
    return (edge.out_axis == 0) != imported.bindings[edge.weight].transposed
