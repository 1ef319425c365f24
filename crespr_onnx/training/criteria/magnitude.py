"""The criterion `magnitude`: what a connection adds to its output."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from crespr_onnx.layout import ChannelGraph
from crespr_onnx.training.criteria.criterion import FloatArray, Importance, connections
from crespr_onnx.training.importer import ImportedModel
from crespr_onnx.training.objective import Batch, Objective


@dataclass(frozen=True)
class Magnitude:
    """|w|^2 E[x^2]: the energy that a connection adds to its output.

    The activation term of Wanda (Sun et al. 2023, arXiv 2306.11695), squared so that it sums over
    a kernel. Without data it is plain squared magnitude.
    """

    def score(
        self,
        imported: ImportedModel,
        graph: ChannelGraph,
        batches: Sequence[Batch],
        objective: Objective,
    ) -> Importance:
        """Importance of every connection, see `Criterion.score`."""
        energy = _input_energy(imported, graph, batches)
        return {
            edge.name: connections(imported, edge, imported.tensor(edge.weight) ** 2)
            * energy.get(edge.name, np.ones(len(edge.in_channels)))[None, :]
            for edge in graph.edges
        }


def _input_energy(
    imported: ImportedModel, graph: ChannelGraph, batches: Sequence[Batch]
) -> dict[str, FloatArray]:
    """E[x_i^2] per input position of each edge, over samples and space."""
    totals: dict[str, FloatArray] = {}
    hooks = []
    for edge in graph.edges:
        path = imported.modules.get(edge.name)
        if path is None:
            continue
        axis = 1 if edge.is_convolution else -1

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
