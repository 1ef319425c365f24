"""How much each connection of each weighted edge matters.

A connection joins one input position of an edge to one output position; its importance is summed
over the kernel. All importances are non-negative and, within one edge, comparable.
"""

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray

from crespr_onnx.layout import ChannelGraph, WeightedEdge
from crespr_onnx.training.importer import ImportedModel
from crespr_onnx.training.objective import Batch, Objective

FloatArray = NDArray[np.float64]
Importance = Mapping[str, FloatArray]
"""Edge name -> importance of each connection, shape [n_out, n_in]."""

Criterion = Callable[[ImportedModel, ChannelGraph, list[Batch], Objective], Importance]


def connections(imported: ImportedModel, edge: WeightedEdge, tensor: torch.Tensor) -> FloatArray:
    """A weight-shaped tensor as [n_out, n_in], summed over the kernel."""
    out_axis, in_axis = edge.out_axis, edge.in_axis
    if imported.bindings[edge.weight].transposed:
        out_axis, in_axis = 1 - out_axis, 1 - in_axis
    array = tensor.detach().double().cpu().numpy()
    kernel_axes = tuple(range(2, array.ndim))
    summed = array.sum(axis=kernel_axes) if kernel_axes else array
    return np.ascontiguousarray(summed if (out_axis, in_axis) == (0, 1) else summed.T)


def magnitude(
    imported: ImportedModel, graph: ChannelGraph, batches: list[Batch], objective: Objective
) -> Importance:
    """|w|^2 E[x^2]: the energy that a connection adds to its output.

    The activation term of Wanda (Sun et al. 2023, arXiv 2306.11695), squared so that it sums over
    a kernel. Without data it is plain squared magnitude.
    """
    energy = _input_energy(imported, graph, batches)
    return {
        edge.name: connections(imported, edge, imported.parameter(edge.weight) ** 2)
        * energy.get(edge.name, np.ones(len(edge.in_channels)))[None, :]
        for edge in graph.edges
    }


def taylor(
    imported: ImportedModel, graph: ChannelGraph, batches: list[Batch], objective: Objective
) -> Importance:
    """(g w)^2: the squared first-order change of the loss when a weight goes.

    Molchanov et al. 2019, arXiv 1906.10771, equation 8, summed over the batches given.
    """
    scores = {
        edge.name: np.zeros((len(edge.out_channels), len(edge.in_channels))) for edge in graph.edges
    }
    imported.module.eval()
    for batch in batches:
        imported.module.zero_grad(set_to_none=True)
        torch.autograd.backward(objective.loss(imported.module(*batch.inputs), batch))
        for edge in graph.edges:
            weight = imported.parameter(edge.weight)
            if weight.grad is not None:
                scores[edge.name] += connections(imported, edge, (weight.grad * weight) ** 2)
    imported.module.zero_grad(set_to_none=True)
    return scores


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


CRITERIA: Mapping[str, Criterion] = {"magnitude": magnitude, "taylor": taylor}


def _input_energy(
    imported: ImportedModel, graph: ChannelGraph, batches: list[Batch]
) -> dict[str, FloatArray]:
    """E[x_i^2] per input position of each edge, over samples and space."""
    totals: dict[str, FloatArray] = {}
    hooks = []
    for edge in graph.edges:
        path = imported.modules.get(edge.name)
        if path is None:
            continue
        axis = -1 if edge.op in ("Gemm", "MatMul") else 1

        def record(
            _: torch.nn.Module,
            inputs: tuple[torch.Tensor, ...],
            name: str = edge.name,
            axis: int = axis,
        ) -> None:
            x = inputs[0].detach().double().movedim(axis, 0).flatten(1)
            mean = (x**2).mean(dim=1).cpu().numpy()
            totals[name] = totals.get(name, 0.0) + mean / len(batches)

        hooks.append(imported.module.get_submodule(path).register_forward_pre_hook(record))
    imported.module.eval()
    with torch.no_grad():
        for batch in batches:
            imported.module(*batch.inputs)
    for hook in hooks:
        hook.remove()
    lengths = {edge.name: len(edge.in_channels) for edge in graph.edges}
    return {name: total for name, total in totals.items() if len(total) == lengths[name]}
