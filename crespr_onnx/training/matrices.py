"""Weights of edges as matrices: [n_out, n_in * kernel], taps innermost, float64."""

import numpy as np
import torch
from numpy.typing import NDArray

from crespr_onnx.layout import WeightedEdge
from crespr_onnx.training.importer import ImportedModel

FloatArray = NDArray[np.float64]


def weight_matrix(imported: ImportedModel, edge: WeightedEdge) -> FloatArray:
    """The weights of an edge as a matrix."""
    weight = imported.tensor(edge.weight).detach().double().cpu().numpy()
    oriented = weight if _outputs_first(imported, edge) else weight.swapaxes(0, 1)
    return np.ascontiguousarray(oriented.reshape(len(oriented), -1))


def set_weight_matrix(imported: ImportedModel, edge: WeightedEdge, matrix: FloatArray) -> None:
    """Gives an edge the weights of a matrix, in place."""
    parameter = imported.tensor(edge.weight)
    shape = tuple(parameter.shape)
    if _outputs_first(imported, edge):
        oriented = matrix.reshape(shape)
    else:
        oriented = matrix.reshape(shape[1], shape[0], *shape[2:]).swapaxes(0, 1)
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(np.ascontiguousarray(oriented)))


def _outputs_first(imported: ImportedModel, edge: WeightedEdge) -> bool:
    return (edge.out_axis == 0) != imported.bindings[edge.weight].transposed
