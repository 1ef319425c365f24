"""Pruning of whole channels: everything stays dense, only narrower."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accuracy_methods.task import Outcome, Task
from accuracy_methods.training import shrunk_outcome
from crespr_onnx.errors import ModelError
from crespr_onnx.layout import DROPPED, Layout, dense_layout
from crespr_onnx.stages.train import CALIBRATION_BATCHES
from crespr_onnx.training.importer import import_model
from crespr_onnx.training.relevance.reference import reference_samples
from crespr_onnx.training.relevance.score import unit_relevance
from crespr_onnx.training.relevance.variant import Variant

FloatArray = NDArray[np.float64]


class ChannelPruning(ABC):
    """Removes channels at once, then trains the narrow model for all epochs."""

    trains = True

    @abstractmethod
    def orders(self, task: Task) -> Iterator[Layout]:
        """Layouts that keep less and less, the first one the most."""

    def run(self, task: Task, ratio: float, seed: int) -> Outcome:
        """See `Method.run`."""
        graph, budget = task.prepared.graph, task.budget(ratio)
        stored = graph.weights
        for layout in self.orders(task):
            kept = {e.weight: layout.stored_weights(graph, e) for e in graph.edges}
            stored = graph.opaque_weights + sum(kept.values())
            if stored <= budget:
                return shrunk_outcome(task, layout, task.settings(ratio, seed))
        raise ModelError(
            f"with a channel left in every group the model still stores {stored} weights, more "
            f"than the {budget} of ratio {ratio:g}"
        )


@dataclass(frozen=True)
class UniformL1(ChannelPruning):
    """The same share of every group, by the L1 norm of the weights that make a channel.

    Li et al. 2016, "Pruning Filters for Efficient ConvNets" (arXiv 1608.08710, section 3.1).
    """

    def orders(self, task: Task) -> Iterator[Layout]:
        """See `ChannelPruning.orders`."""
        graph, scores = task.prepared.graph, _l1_norms(task)
        free = [group.channels for group in graph.groups if group.frozen is None]
        ranked = [c[np.argsort(-scores[c], kind="stable")] for c in free]
        # Every share at which some group loses a channel.
        shares = np.unique(np.concatenate([np.arange(1, len(c) + 1) / len(c) for c in free]))
        for share in shares[::-1]:
            layout = dense_layout(graph)
            for channels in ranked:
                width = max(1, int(share * len(channels) + 1e-9))
                layout.labels[channels[width:]] = DROPPED
            yield layout


@dataclass(frozen=True)
class LrpUnits(ChannelPruning):
    """The least relevant channels of all groups together, relevance being that of LRP.

    Yeom et al. 2019, "Pruning by Explaining" (arXiv 1912.08881), which prunes and trains in turns;
    here it is done once. A group keeps one channel at least.
    """

    def orders(self, task: Task) -> Iterator[Layout]:
        """See `ChannelPruning.orders`."""
        graph, scores = task.prepared.graph, _relevance(task)
        free = [group.channels for group in graph.groups if group.frozen is None]
        last = {int(c[np.argmax(scores[c])]) for c in free}
        channels = np.concatenate(free)
        layout = dense_layout(graph)
        for channel in channels[np.argsort(scores[channels], kind="stable")]:
            if int(channel) not in last:
                layout.labels[channel] = DROPPED
                yield layout


def _l1_norms(task: Task) -> FloatArray:
    """Sum of |w| over the weights that write each channel, or read it if none does."""
    graph = task.prepared.graph
    written, read = np.zeros(graph.n_channels), np.zeros(graph.n_channels)
    for edge in graph.edges:
        value = task.dense.graph.initializers[edge.weight].const_value
        assert value is not None
        norms = np.abs(value.numpy().astype(np.float64))
        norms = norms.sum(axis=tuple(range(2, norms.ndim)))
        for axis, channels, total in (
            (edge.out_axis, edge.out_channels, written),
            (edge.in_axis, edge.in_channels, read),
        ):
            np.add.at(total, channels, norms.sum(axis=1 - axis))
    return np.where(written > 0, written, read)


def _relevance(task: Task) -> FloatArray:
    """Relevance of every channel on a few training samples of each class."""
    lesson = task.lesson
    classifier = lesson.objective.classifier
    batches = lesson.calibration(task.batch_size, CALIBRATION_BATCHES)
    samples = reference_samples(batches, classifier)
    imported = import_model(task.dense)
    return unit_relevance(imported, task.prepared.graph, samples, Variant(classifier))
