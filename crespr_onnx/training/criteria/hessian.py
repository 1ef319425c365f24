"""The criterion `hessian`: what a layer loses when a connection goes and the others adapt."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crespr_onnx.layout import ChannelGraph
from crespr_onnx.training.calibration import MAX_INPUTS, stream_moments, width_of
from crespr_onnx.training.criteria.criterion import Importance
from crespr_onnx.training.criteria.magnitude import Magnitude
from crespr_onnx.training.importer import ImportedModel
from crespr_onnx.training.matrices import weight_matrix
from crespr_onnx.training.objective import Batch, Objective
from crespr_onnx.training.patches import why_unreadable
from crespr_onnx.training.second_order import DAMPING, saliency


@dataclass(frozen=True)
class Hessian:
    """w ([H^-1]_ii)^-1 w^T, with H = E[x x^T] of the layer's inputs: Optimal Brain Surgeon.

    Layer by layer as in Frantar and Alistarh 2022 (arXiv 2208.11580); the taps of a kernel go
    together, so i is a block of them. Edges whose Hessian is not to be had (transposed and grouped
    convolutions, very wide layers, inputs that are not finite) are scored by `Magnitude`, which is
    the same for inputs that are independent of each other.

    Attributes:
        damping: what is added to the diagonal of H, relative to its mean.
    """

    damping: float = DAMPING

    def score(
        self,
        imported: ImportedModel,
        graph: ChannelGraph,
        batches: Sequence[Batch],
        objective: Objective,
    ) -> Importance:
        """Importance of every connection, see `Criterion.score`."""
        edges = [
            e
            for e in graph.edges
            if why_unreadable(imported, e) is None and width_of(e) <= MAX_INPUTS
        ]
        scores = dict(Magnitude().score(imported, graph, batches, objective))
        for edge, moments in stream_moments(imported, edges, batches):
            if moments.is_finite:
                weight = weight_matrix(imported, edge)
                found = saliency(weight, moments.gram, edge.kernel, self.damping)
                scores[edge.name] = np.maximum(found, 0.0)
        return scores
