"""Restriction: weights between clusters, and channels that leave, fade to zero during training.

Each weight is multiplied by gate[out] * gate[in] * (1 inside a cluster, alpha between clusters).
Alpha anneals from 1 to 0 on a half cosine; the channels to be dropped leave one after the other,
the least important first, on the cubic schedule of Zhu and Gupta 2017 (arXiv 1710.01878), and each
of them fades over a while, so that nothing is ever cut abruptly.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize

from crespr_onnx.layout import DROPPED, ChannelGraph, IntArray, Layout, WeightedEdge
from crespr_onnx.training.channel_edges import FloatArray
from crespr_onnx.training.importer import ImportedModel

ANNEALED_AT = 0.85
"""Share of the phase after which every factor is 0 or 1."""
FADE = 0.25
"""Share of the phase over which one channel leaves."""
LEVELS = 200
"""Into how many steps the way from the first factors to the last is divided."""


class _Scale(nn.Module):
    """Multiplies a weight by a factor per connection."""

    def __init__(self, factor: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("factor", factor)

    @property
    def tensor(self) -> torch.Tensor:
        """The factor, in the axes of the weight."""
        factor = self.factor
        assert isinstance(factor, torch.Tensor)
        return factor

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight * self.tensor


class Restriction:
    """The factors on all weighted edges of an imported model.

    Args:
        imported: the model; its weights are parametrized until `commit`.
        graph: its channels.
        layout: the clusters to restrict it to.
        importance: importance of each channel, shape [n_channels], for the order of leaving.
    """

    def __init__(
        self,
        imported: ImportedModel,
        graph: ChannelGraph,
        layout: Layout,
        importance: FloatArray,
    ) -> None:
        self._imported = imported
        self._graph = graph
        self._scales: dict[str, _Scale] = {}
        self._owners: list[tuple[nn.Module, str]] = []
        self._set_to: tuple[float, bytes] | None = None
        self.relabel(layout, importance)
        for edge in graph.edges:
            if edge.frozen is None and edge.weight not in self._scales:
                weight = imported.tensor(edge.weight)
                # To be broadcast over kernels.
                scale = _Scale(weight.new_ones(*weight.shape[:2], *[1] * (weight.ndim - 2)))
                for owner, attribute in _owners(imported.module, weight):
                    parametrize.register_parametrization(owner, attribute, scale, unsafe=True)
                    self._owners.append((owner, attribute))
                self._scales[edge.weight] = scale

    def relabel(self, layout: Layout, importance: FloatArray) -> None:
        """Changes the clusters; meant for while weights between clusters still count."""
        self._take(layout)
        self._leaves_at = np.full(self._graph.n_channels, np.inf)
        for group in self._graph.groups:
            leaving = group.channels[layout.labels[group.channels] == DROPPED]
            ranked = leaving[np.argsort(importance[leaving], kind="stable")]
            share = np.arange(len(ranked)) / max(len(ranked), 1)
            self._leaves_at[ranked] = (1.0 - (1.0 - share) ** (1.0 / 3.0)) * (ANNEALED_AT - FADE)

    def _take(self, layout: Layout) -> None:
        self.layout = layout
        self._labels = torch.from_numpy(layout.labels.astype(np.int32))
        self._set_to = None

    def state(self) -> dict[str, torch.Tensor]:
        """Labels and order of leaving, for a checkpoint."""
        return {
            "labels": torch.from_numpy(self.layout.labels.copy()),
            "leaves_at": torch.from_numpy(self._leaves_at.copy()),
        }

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Takes up what `state` gave."""
        self._take(Layout(state["labels"].numpy(), self.layout.clusters))
        self._leaves_at = state["leaves_at"].numpy()

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """Within this context the weights are as if nothing was restricted."""
        kept = {name: scale.tensor.clone() for name, scale in self._scales.items()}
        for scale in self._scales.values():
            scale.tensor.fill_(1.0)
        try:
            yield
        finally:
            for name, scale in self._scales.items():
                scale.tensor.copy_(kept[name])

    def alpha(self, progress: float) -> float:
        """Factor on weights between clusters at a point (0..1) of the phase."""
        return 0.5 * (1.0 + math.cos(math.pi * min(progress / ANNEALED_AT, 1.0)))

    def advance(self, progress: float) -> None:
        """Sets all factors for a point (0..1) of the phase, if they have changed since the last."""
        # Fine steps rather than none: in a long phase most training steps then cost nothing here.
        progress = round(progress * LEVELS) / LEVELS
        gate = np.clip((self._leaves_at + FADE - progress) / FADE, 0.0, 1.0).astype(np.float32)
        alpha = self.alpha(progress)
        if self._set_to == (alpha, gate.tobytes()):
            return
        self._set_to = (alpha, gate.tobytes())
        for edge in self._graph.edges:
            if edge.frozen is not None:
                continue
            scale = self._scales[edge.weight].tensor
            self._set_between(edge, scale, alpha)
            for axis, channels in self._sides(edge):
                gates = gate[channels]
                if (gates < 1.0).any():
                    scale.mul_(_along(axis, torch.from_numpy(gates), scale))

    def _set_between(self, edge: WeightedEdge, scale: torch.Tensor, alpha: float) -> None:
        """Alpha between clusters, 1 inside them and where a channel leaves, in place."""
        scale.fill_(1.0)
        if alpha == 1.0 or self.layout.edge_clusters(self._graph, edge) == 1:
            return
        labels = [(axis, self._labels[channels]) for axis, channels in self._sides(edge)]
        first, second = (_along(axis, of, scale) for axis, of in labels)
        torch.mul(torch.ne(first, second), alpha - 1.0, out=scale).add_(1.0)
        for axis, of in labels:
            scale.index_fill_(axis, (of == DROPPED).nonzero().view(-1).to(scale.device), 1.0)

    def _sides(self, edge: WeightedEdge) -> tuple[tuple[int, IntArray], tuple[int, IntArray]]:
        """Axis of the stored weight and channels, of the outputs and of the inputs."""
        transposed = self._imported.bindings[edge.weight].transposed
        out = 1 - edge.out_axis if transposed else edge.out_axis
        return (out, edge.out_channels), (1 - out, edge.in_channels)

    def commit(self) -> None:
        """Makes the restricted weights the weights: everything outside the layout is zero."""
        self.advance(1.0)
        for owner, attribute in self._owners:
            parametrize.remove_parametrizations(owner, attribute)
        self._owners.clear()


def _along(axis: int, vector: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """A vector as a tensor that broadcasts along one axis of a factor."""
    shape = [1] * scale.ndim
    shape[axis] = len(vector)
    return vector.to(scale.device).view(shape)


def _owners(module: nn.Module, weight: torch.Tensor) -> list[tuple[nn.Module, str]]:
    """Every place that holds a weight: layers that share one must be restricted alike."""
    return [
        (owner, attribute)
        for owner in module.modules()
        for attribute, tensor in owner.named_parameters(recurse=False, remove_duplicate=False)
        if tensor is weight
    ]
