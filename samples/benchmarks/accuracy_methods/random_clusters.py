"""Crespr with clusters that are dealt out at random: what choosing them is worth."""

from dataclasses import dataclass

import numpy as np

from accuracy_methods.crespr import chosen_plan
from accuracy_methods.task import Outcome, Task
from accuracy_methods.training import training_phases, tuned_outcome
from crespr_onnx.layout import DROPPED, ChannelGraph, IntArray, Layout
from crespr_onnx.progress import silent
from crespr_onnx.stages.correct import correct
from crespr_onnx.stages.masking import mask_weights, masked_copy
from crespr_onnx.stages.train import score
from crespr_onnx.training.allocate import Allocation
from crespr_onnx.training.channel_edges import channel_edges, channel_importance
from crespr_onnx.training.criteria.criterion import Importance
from crespr_onnx.training.finetune import fine_tune
from crespr_onnx.training.importer import import_model
from crespr_onnx.training.restrict import Restriction


class Deal:
    """Everything in a fixed order, of which a layout of any size takes the first.

    Channels are in the order of their importance, so that the same ones stay as in crespr's first
    layout or nearly so; which cluster each belongs to and what each cluster reads is random.

    Args:
        graph: channels of the model.
        scores: importance of all connections of the dense model.
        final: the sizes to end with.
        rng: of what is random.
    """

    def __init__(
        self,
        graph: ChannelGraph,
        scores: Importance,
        final: Allocation,
        rng: np.random.Generator,
    ) -> None:
        self._graph = graph
        self._ranked: list[IntArray] = []
        self._labels = np.zeros(graph.n_channels, dtype=np.int64)
        importance = channel_importance(graph, channel_edges(graph, scores))
        stays = np.ones(graph.n_channels, dtype=np.bool_)
        for g, group in enumerate(graph.groups):
            ranked = group.channels
            if group.frozen is None:
                ranked = ranked[np.argsort(-importance[ranked], kind="stable")]
                k = int(final.clusters[g])
                # A permutation of all clusters at a time, so that any multiple of K is balanced.
                rounds = [rng.permutation(k) for _ in range(-(-len(ranked) // k))]
                self._labels[ranked] = np.concatenate(rounds)[: len(ranked)]
                stays[ranked[int(final.widths[g]) :]] = False
            self._ranked.append(ranked)
        self._reads = {}
        whole = Layout(self._labels, final.clusters)
        for edge in graph.edges:
            if edge.name in final.fan_in:
                k = whole.axis_clusters(graph, edge.out_channels)
                keys = rng.random((len(edge.in_channels), k)) + ~stays[edge.in_channels][:, None]
                self._reads[edge.name] = keys.argsort(axis=0)

    def layout(self, like: Layout) -> Layout:
        """A layout that keeps and reads as much as another does."""
        labels = self._labels.copy()
        for ranked in self._ranked:
            labels[ranked[np.count_nonzero(like.kept(ranked)) :]] = DROPPED
        selections = {}
        for name, order in self._reads.items():
            selections[name] = np.zeros(order.shape, dtype=np.bool_)
            fan_in = np.count_nonzero(like.selections[name][:, 0])
            np.put_along_axis(selections[name], order[:fan_in], values=True, axis=0)
        return Layout(labels, like.clusters, selections)


@dataclass(frozen=True)
class RandomClusters:
    """The allocation, schedule and training of crespr; labels and selections are random."""

    trains: bool = True

    def run(self, task: Task, ratio: float, seed: int) -> Outcome:
        """See `Method.run`."""
        settings, graph = task.settings(ratio, seed), task.prepared.graph
        plan = chosen_plan(task, settings)
        scores = score(task.dense, graph, task.lesson, settings)
        deal = Deal(graph, scores, plan.allocation, np.random.default_rng((seed, 11)))
        layout = deal.layout(plan.layout)
        *first, _ = training_phases(task, settings)
        if not first:
            masked = masked_copy(task.dense, graph, layout)
            lesson = task.lesson
            found = correct(task.dense, masked, graph, layout, lesson, settings, silent)
            return tuned_outcome(task, found.model, layout, settings)
        imported = import_model(task.dense)
        restriction = Restriction(imported, graph, layout, plan.allocation)

        def cut(progress: float) -> None:
            if restriction.due(progress):
                # Only its sizes count: how much stays at this point of the schedule.
                sized = restriction.next_layout(progress, scores)
                restriction.cut(progress, deal.layout(sized))
            restriction.hold()

        fine_tune(imported.module, task.lesson, first[0], before_step=cut)
        cut(1.0)
        masked = task.dense.clone(deep_copy=True)
        imported.write_back(masked)
        layout = restriction.layout
        mask_weights(masked, graph, layout)
        return tuned_outcome(task, masked, layout, settings)
