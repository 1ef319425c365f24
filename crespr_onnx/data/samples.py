"""Samples in memory, with what training and evaluation ask of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crespr_onnx.data.normalisation import Normalisation
from crespr_onnx.errors import DataError, UsageError


@dataclass(frozen=True, eq=False)
class Samples:
    """Inputs of a model, one entry per sample on the first axis, and perhaps labels.

    Attributes:
        inputs: stored array per model input, shape [N, ...]. Images are uint8 pixels here: read
            model inputs through `batch`.
        labels: class of each sample, int64 of shape [N], or None.
        normalisation: per input, how stored pixels become what the model reads; others are stored
            as they are read.
        notes: what the user should know about how the data was read.
    """

    inputs: Mapping[str, NDArray[Any]]
    labels: NDArray[np.int64] | None = None
    normalisation: Mapping[str, Normalisation] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def batch(self, indices: NDArray[np.integer[Any]] | slice) -> dict[str, NDArray[Any]]:
        """Model inputs of the samples at `indices`, in their order."""
        return {
            name: self.normalisation[name](array[indices])
            if name in self.normalisation
            else array[indices]
            for name, array in self.inputs.items()
        }

    def batches(self, size: int) -> Iterator[dict[str, NDArray[Any]]]:
        """All samples in order, `size` at a time; the last batch may be smaller."""
        for start in range(0, len(self), size):
            yield self.batch(slice(start, start + size))

    def subset(self, indices: NDArray[np.integer[Any]]) -> "Samples":
        """A copy with the samples at `indices`, in their order."""
        return replace(
            self,
            inputs={name: array[indices] for name, array in self.inputs.items()},
            labels=None if self.labels is None else self.labels[indices],
        )

    def split(self, fraction: float, seed: int) -> tuple["Samples", "Samples"]:
        """Parts the samples in two, at random, with each class shared out evenly.

        Args:
            fraction: share of the second part, between 0 and 1; each part gets a sample at least.
            seed: the same seed gives the same parts.

        Returns:
            The rest, and the part of size `fraction`; both keep the order of the samples.

        Raises:
            UsageError: if the fraction is not between 0 and 1.
            DataError: if there is only one sample.
        """
        if not 0 < fraction < 1:
            raise UsageError(f"cannot hold out {fraction:g} of the data; give a share in (0, 1)")
        n = len(self)
        if n < 2:
            raise DataError(f"the data has {n} sample and cannot be split; give at least 2")
        held = min(max(round(n * fraction), 1), n - 1)
        rng = np.random.default_rng(seed)
        order = rng.permutation(n)
        if self.labels is not None:
            # Sorted by class, evenly spaced picks take the same share of every class.
            order = order[np.argsort(self.labels[order], kind="stable")]
        picks = ((np.arange(held) + rng.random()) * n / held).astype(np.int64)
        chosen = np.zeros(n, dtype=bool)
        chosen[order[np.minimum(picks, n - 1)]] = True
        return self.subset(np.flatnonzero(~chosen)), self.subset(np.flatnonzero(chosen))
