"""What the models are timed on: batches of real samples, or of random numbers."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crespr_onnx.bench.settings import BenchSettings
from crespr_onnx.bench.subjects import Subject
from crespr_onnx.data import load_data
from crespr_onnx.errors import UsageError
from crespr_onnx.graph.random_inputs import random_inputs

Arrays = Mapping[str, NDArray[Any]]
SEED = 0


def sizes_to_time(subject: Subject, settings: BenchSettings, notes: list[str]) -> tuple[int, ...]:
    """The batch sizes that all models of a subject take; what is left out is noted.

    Raises:
        UsageError: none is left.
    """
    only = subject.only_batch()
    wanted = tuple(sorted(set(settings.batches)))
    if only is None:
        return wanted
    if only not in wanted:
        raise UsageError(f"{subject.name}: the batch is fixed to {only}; add --batch {only}")
    for batch in wanted:
        if batch != only:
            notes.append(f"{subject.name}: the batch is fixed to {only}; {batch} is left out")
    return (only,)


def make_inputs(subject: Subject, batch: int, data: str | None) -> Arrays:
    """One batch: the first samples of `data`, from the start again where there are too few.

    Raises:
        DataError: the data does not fit the models.
        UsageError: an axis besides the batch is open, or inputs cannot be drawn at random.
    """
    if data is not None:
        samples = load_data(data, subject.signature)
        drawn: Arrays = samples.batch(np.resize(np.arange(len(samples)), batch))
        return drawn
    rng = np.random.default_rng(SEED)
    return random_inputs(subject.signature, rng, batch, subject.input_shapes or None)
