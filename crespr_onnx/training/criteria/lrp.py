"""The criterion `lrp`: how much of the decision for the true class flows through a connection."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crespr_onnx.layout import ChannelGraph
from crespr_onnx.training.criteria.criterion import Importance, connections
from crespr_onnx.training.importer import ImportedModel
from crespr_onnx.training.objective import Batch, Objective
from crespr_onnx.training.relevance.reference import PER_CLASS, reference_samples
from crespr_onnx.training.relevance.score import relevance_flows
from crespr_onnx.training.relevance.variant import Variant


@dataclass(frozen=True)
class Lrp:
    """Relevance of each connection, on few samples of each class.

    Yeom et al. 2019, "Pruning by explaining", arXiv 1912.08881, which scores units; here what a
    unit gets is told apart by the connections through which it hands it on:
    |sum over samples, positions and kernel of R_{i<-j}|. Without residual sums nothing is negative
    under the z+ rule, and the sum over the inputs of a unit is the unit's own relevance.

    Attributes:
        per_class: reference samples of each class, the first ones of the calibration data; without
            labels the dense model's answer is the true class.
    """

    per_class: int = PER_CLASS

    def score(
        self,
        imported: ImportedModel,
        graph: ChannelGraph,
        batches: Sequence[Batch],
        objective: Objective,
    ) -> Importance:
        """Importance of every connection, see `Criterion.score`.

        It is zero for edges that no relevance reaches.
        """
        samples = reference_samples(batches, objective.classifier, self.per_class)
        sums = {e.name: np.zeros((len(e.out_channels), len(e.in_channels))) for e in graph.edges}
        for flows in relevance_flows(imported, samples, Variant(objective.classifier)):
            for edge in graph.edges:
                flow = flows.get(imported.modules.get(edge.name, ""))
                if flow is not None:
                    sums[edge.name] += connections(imported, edge, flow.weights)
        return {name: np.abs(total) for name, total in sums.items()}
