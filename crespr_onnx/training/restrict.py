"""Restriction: the dense model shrinks to its layout while it trains.

What is stored goes from everything to what the allocation grants on the cubic schedule of Zhu and
Gupta 2017 (arXiv 1710.01878, equation 1): the channels that each group keeps and the inputs that
each cluster reads. At every step of the schedule the layout is improved for the sizes of that
moment and for the importance of the weights as they have become, and what it leaves out is set to
zero. A cut takes the least important of what is left, so none is abrupt, and the labels follow what
training makes of the model; what a cluster reads again after a while, it reads from zero on.
"""

from collections.abc import Mapping

import numpy as np
import torch

from crespr_onnx.layout import ChannelGraph, Layout
from crespr_onnx.training.allocate import Allocation
from crespr_onnx.training.channel_edges import channel_edges
from crespr_onnx.training.cluster import improve, select
from crespr_onnx.training.criteria.criterion import Importance
from crespr_onnx.training.importer import ImportedModel
from crespr_onnx.training.matrices import weight_mask

RESTRICTED_AT = 0.85
"""Share of the phase after which nothing is cut any more."""
CUTS = 40
"""Steps of the schedule."""
SWEEPS = 1
"""Passes over all groups to improve a layout that is nearly right."""


class Restriction:
    """The masks on all weighted edges of an imported model while it trains.

    Args:
        imported: the model; its weights are set to zero in place.
        graph: its channels.
        layout: the layout to start from, made for the whole allocation.
        allocation: the sizes to end with.
    """

    def __init__(
        self,
        imported: ImportedModel,
        graph: ChannelGraph,
        layout: Layout,
        allocation: Allocation,
    ) -> None:
        self.layout = layout
        self._imported = imported
        self._graph = graph
        self._allocation = allocation
        self._cuts = 0
        self._masks: dict[str, torch.Tensor] = {}

    def due(self, progress: float) -> bool:
        """Whether a cut is due at a point (0..1) of the phase."""
        return _cuts_at(progress) > self._cuts

    def next_layout(self, progress: float, importance: Importance) -> Layout:
        """The layout for a point of the phase and the importance of the weights as they are."""
        sizes = self._sizes(1.0 - (1.0 - _cuts_at(progress) / CUTS) ** 3)
        edges = channel_edges(self._graph, importance)
        reading = {
            e.edge.name: select(e, self.layout, sizes.fan_in[e.edge.name])
            for e in edges
            if e.edge.name in sizes.fan_in
        }
        start = Layout(self.layout.labels, self.layout.clusters, reading)
        return improve(self._graph, edges, sizes, start, SWEEPS)

    def cut(self, progress: float, layout: Layout) -> None:
        """Takes a layout for what is stored from now on."""
        self.layout = layout
        self._cuts = _cuts_at(progress)
        self._set_masks()

    def hold(self) -> None:
        """Sets everything outside the layout to zero: a step of the optimiser moves it again.

        That needs no gradients through the masks, as masks inside the model would.
        """
        if self._masks:
            weights = [self._imported.tensor(weight) for weight in self._masks]
            with torch.no_grad():
                torch._foreach_mul_(weights, list(self._masks.values()))

    def state(self) -> dict[str, torch.Tensor]:
        """The layout and how far the schedule is, for a checkpoint."""
        selections = {
            f"selection.{name}": torch.from_numpy(selection.copy())
            for name, selection in self.layout.selections.items()
        }
        labels = torch.from_numpy(self.layout.labels.copy())
        return {"labels": labels, "cuts": torch.tensor(self._cuts), **selections}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Takes up what `state` gave."""
        selections = {
            name.removeprefix("selection."): tensor.numpy()
            for name, tensor in state.items()
            if name.startswith("selection.")
        }
        self.layout = Layout(state["labels"].numpy(), self.layout.clusters, selections)
        self._cuts = int(state["cuts"])
        self._set_masks()

    def _sizes(self, done: float) -> Allocation:
        """The allocation when a share of what has to go is gone."""
        final, graph = self._allocation, self._graph
        whole = np.array([len(group.channels) for group in graph.groups], dtype=np.int64)
        widths = np.round(whole - (whole - final.widths) * done).astype(np.int64)
        widths -= widths % final.clusters
        inputs = {edge.name: len(edge.in_channels) for edge in graph.edges}
        fan_in = {
            name: round(inputs[name] - (inputs[name] - least) * done)
            for name, least in final.fan_in.items()
        }
        return Allocation(final.clusters, np.maximum(widths, final.widths), fan_in, final.weights)

    def _set_masks(self) -> None:
        for edge in self._graph.edges:
            if edge.frozen is None:
                mask = self.layout.edge_mask(self._graph, edge)
                weight = self._imported.tensor(edge.weight)
                self._masks[edge.weight] = weight_mask(self._imported, edge, mask).to(weight)


def _cuts_at(progress: float) -> int:
    """Steps of the schedule that are behind at a point of the phase, the first at its start."""
    return min(CUTS, int(progress / RESTRICTED_AT * CUTS) + 1)
