"""What training needs besides a model: data with the dense model's answers, and a goal."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from crespr_onnx.data import Samples
from crespr_onnx.training.objective import Batch, Objective


@dataclass(frozen=True, eq=False)
class Lesson:
    """Samples, what the dense model answers to them, and what to minimise.

    Attributes:
        samples: inputs and perhaps labels.
        inputs: names of the model's inputs, in order.
        targets: per output of the model its answer to every sample, [samples, ...], or None for
            an output to learn nothing from.
        objective: the loss.
    """

    samples: Samples
    inputs: tuple[str, ...]
    targets: tuple[NDArray[np.float32] | None, ...]
    objective: Objective

    def batch(self, indices: NDArray[np.int64]) -> Batch:
        """One batch as tensors."""
        arrays = self.samples.batch(indices)
        labels = self.samples.labels
        return Batch(
            inputs=tuple(_tensor(arrays[name]) for name in self.inputs),
            targets=tuple(
                None if t is None else torch.from_numpy(t[indices]) for t in self.targets
            ),
            labels=None if labels is None else torch.from_numpy(labels[indices].astype(np.int64)),
        )

    def steps(self, batch_size: int) -> int:
        """Batches per epoch: only full ones, unless there is no full one."""
        return max(1, len(self.samples) // batch_size)

    def shuffled(
        self, batch_size: int, rng: np.random.Generator, part: int = 0, parts: int = 1
    ) -> Iterator[Batch]:
        """One epoch in random order; samples that do not fill a last batch sit it out.

        Args:
            batch_size: samples per batch, all parts together.
            rng: of the order.
            part: which part of each batch to give.
            parts: into how many parts each batch is divided, as evenly as it goes.
        """
        order = rng.permutation(len(self.samples))
        for step in range(self.steps(batch_size)):
            indices = np.sort(order[step * batch_size : (step + 1) * batch_size])
            first, last = (len(indices) * p // parts for p in (part, part + 1))
            yield self.batch(indices[first:last])

    def part(self, indices: NDArray[np.int64]) -> "Lesson":
        """The lesson on some of its samples."""
        return replace(
            self,
            samples=self.samples.subset(indices),
            targets=tuple(None if t is None else t[indices] for t in self.targets),
        )

    def hold_out(self, share: float, seed: int) -> tuple["Lesson", "Lesson"]:
        """Parts the samples in two at random: those to learn from, and a share to be examined on.

        Each part gets a sample at least.
        """
        n = len(self.samples)
        order = np.random.default_rng((seed, n)).permutation(n)
        held = min(max(round(n * share), 1), n - 1)
        return self.part(np.sort(order[held:])), self.part(np.sort(order[:held]))

    def calibration(self, batch_size: int, batches: int) -> list[Batch]:
        """A few batches spread evenly over the samples in their order."""
        size = min(batch_size, len(self.samples))
        n = min(batches, max(1, len(self.samples) // size))
        starts = np.linspace(0, len(self.samples) - size, n).astype(np.int64)
        return [self.batch(np.arange(start, start + size)) for start in starts]


def _tensor(array: NDArray[Any]) -> torch.Tensor:
    """A tensor in the memory format that training runs in: images with the channels innermost."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
