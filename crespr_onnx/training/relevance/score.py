"""Relevance on reference samples: what passes through each layer, and what each unit gets."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, fx

from crespr_onnx.layout import ChannelGraph, WeightedEdge
from crespr_onnx.training.channel_edges import FloatArray
from crespr_onnx.training.importer import ImportedModel
from crespr_onnx.training.objective import Batch
from crespr_onnx.training.relevance.propagate import Flow, propagate
from crespr_onnx.training.relevance.structure import Structure
from crespr_onnx.training.relevance.variant import Variant, start_relevance


def relevance_flows(
    imported: ImportedModel,
    batches: Sequence[Batch],
    variant: Variant | None = None,
) -> Iterator[Mapping[str, Flow]]:
    """What passes through each layer with weights, batch by batch.

    The model, its gradients and whether it is training are afterwards as they were.

    Args:
        imported: the model.
        batches: reference samples.
        variant: how; by default from one at the true class of each sample.

    Yields:
        Path of the module -> what passed through it.
    """
    structure, variant = Structure(imported.module), variant or Variant()
    for batch in batches:
        training = {module: module.training for module in imported.module.modules()}
        imported.module.eval()
        try:
            with torch.no_grad():
                run = fx.Interpreter(imported.module, garbage_collect_values=False)
                run.run(*batch.inputs)
                outputs = [run.env[node] for node in structure.outputs()]
                start = start_relevance(outputs, batch, variant)
                flows = propagate(structure, run.env, start, variant)
        finally:
            for module, mode in training.items():
                module.training = mode
        yield flows


def unit_relevance(
    imported: ImportedModel,
    graph: ChannelGraph,
    batches: Sequence[Batch],
    variant: Variant | None = None,
) -> FloatArray:
    """Relevance of each channel at the output of the layers that compute it.

    The criterion of arXiv 1912.08881 for whole units: summed over samples and positions; of models
    with residual sums, where signs mix, the size of each value is summed. Channels that several
    layers write (residual streams) get the sum over these; those that no layer with weights writes,
    such as inputs, get what the layers that read them hand back.

    Args:
        imported: the model; afterwards as it was.
        graph: its channels.
        batches: reference samples.
        variant: see `relevance_flows`.

    Returns:
        Scores by channel id, shape [n_channels].
    """
    mixed = Structure(imported.module).has_residuals
    scores = np.zeros(graph.n_channels)
    written = np.zeros(graph.n_channels, dtype=np.bool_)
    read = np.zeros(graph.n_channels)
    for edge in graph.edges:
        written[edge.out_channels] = True
    for flows in relevance_flows(imported, batches, variant):
        for edge in graph.edges:
            flow = flows.get(imported.modules.get(edge.name, ""))
            if flow is None:
                continue
            np.add.at(scores, edge.out_channels, _by_position(edge, flow.output, mixed))
            np.add.at(read, edge.in_channels, _by_position(edge, flow.inputs, mixed))
    return np.where(written, scores, read)


def _by_position(edge: WeightedEdge, relevance: Tensor, mixed: bool) -> FloatArray:
    """Relevance at either end of an edge, summed over all axes but that of the channels."""
    axis = 1 if edge.is_convolution else -1
    values = (relevance.abs() if mixed else relevance).double().movedim(axis, 0).flatten(1)
    result: FloatArray = values.sum(dim=1).cpu().numpy()
    return result
