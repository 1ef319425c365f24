"""The few samples that relevance is computed on, and what it starts from."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from crespr_onnx.training.objective import Batch

PER_CLASS = 10
"""Reference samples of each class; arXiv 1912.08881 finds more to change little."""
WITHOUT_CLASSES = 100
"""Reference samples of a model that has no classes."""


def classes_of(batch: Batch) -> Tensor:
    """The true class of each sample: its label, or what the dense model answers; [batch]."""
    if batch.labels is not None:
        return batch.labels
    answers = batch.targets[0]
    assert answers is not None
    return answers.argmax(dim=1)


def reference_samples(
    batches: Sequence[Batch], classifier: bool, per_class: int = PER_CLASS
) -> list[Batch]:
    """The first samples of each class, in the order given.

    Args:
        batches: calibration data.
        classifier: whether samples have a class; if not, as many are taken from each batch.
        per_class: samples of each class, fewer where there are not so many.
    """
    chosen = []
    if not classifier:
        each = -(-WITHOUT_CLASSES // max(len(batches), 1))
        return [_rows(batch, np.arange(min(each, len(batch.inputs[0])))) for batch in batches]
    seen: dict[int, int] = {}
    for batch in batches:
        rows = []
        for row, label in enumerate(classes_of(batch).tolist()):
            seen[label] = seen.get(label, 0) + 1
            if seen[label] <= per_class:
                rows.append(row)
        if rows:
            chosen.append(_rows(batch, np.array(rows)))
    return chosen


def _rows(batch: Batch, rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Batch:
    index = torch.from_numpy(rows).to(batch.inputs[0].device)
    return Batch(
        tuple(x[index] for x in batch.inputs),
        tuple(None if t is None else t[index] for t in batch.targets),
        None if batch.labels is None else batch.labels[index],
    )
