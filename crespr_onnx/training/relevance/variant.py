"""What relevance starts from, and other choices that published code makes differently."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from crespr_onnx.training.objective import Batch
from crespr_onnx.training.relevance.reference import classes_of


@dataclass(frozen=True)
class Variant:
    """How relevance is propagated.

    Attributes:
        classifier: whether relevance starts at the true class of each sample; if not, every output
            starts with what it is.
        by_score: start from the score of the true class rather than from one.
        any_input: let the z+ rule look at the signs of weights alone; see `positive_rule`. Both
            are so in the published code for the toy data of arXiv 1912.08881.
    """

    classifier: bool = True
    by_score: bool = False
    any_input: bool = False


def start_relevance(
    outputs: Sequence[Tensor], batch: Batch, variant: Variant
) -> list[Tensor | None]:
    """Relevance of each output.

    For a classifier one at the true class, or the score of that class; for any other model what
    each output is (Bach et al. 2015), where there is something to learn from.
    """
    if not variant.classifier:
        return [
            z if t is not None and z.is_floating_point() else None
            for z, t in zip(outputs, batch.targets, strict=True)
        ]
    scores = outputs[0]
    hot = torch.zeros_like(scores).scatter_(1, classes_of(batch)[:, None], 1.0)
    return [hot * scores if variant.by_score else hot, *[None] * (len(outputs) - 1)]
