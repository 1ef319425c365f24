"""The criterion `taylor`: how much the loss changes when a weight goes, to first order."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from crespr_onnx.layout import ChannelGraph
from crespr_onnx.training.criteria.criterion import Importance, connections
from crespr_onnx.training.importer import ImportedModel
from crespr_onnx.training.objective import Batch, Objective


@dataclass(frozen=True)
class Taylor:
    """(g w)^2: the squared first-order change of the loss when a weight goes.

    Molchanov et al. 2019, arXiv 1906.10771, equation 8, summed over the batches given.
    """

    def score(
        self,
        imported: ImportedModel,
        graph: ChannelGraph,
        batches: Sequence[Batch],
        objective: Objective,
    ) -> Importance:
        """Importance of every connection, see `Criterion.score`."""
        scores = {
            edge.name: np.zeros((len(edge.out_channels), len(edge.in_channels)))
            for edge in graph.edges
        }
        imported.module.eval()
        for batch in batches:
            imported.module.zero_grad(set_to_none=True)
            torch.autograd.backward(objective.loss(imported.module(*batch.inputs), batch))
            for edge in graph.edges:
                weight = imported.tensor(edge.weight)
                if weight.grad is not None:
                    scores[edge.name] += connections(imported, edge, (weight.grad * weight) ** 2)
        imported.module.zero_grad(set_to_none=True)
        return scores
