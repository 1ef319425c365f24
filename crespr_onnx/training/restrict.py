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

from crespr_onnx.layout import DROPPED, ChannelGraph, Layout, WeightedEdge
from crespr_onnx.training.channel_edges import FloatArray
from crespr_onnx.training.importer import ImportedModel

ANNEALED_AT = 0.85
"""Share of the phase after which every factor is 0 or 1."""
FADE = 0.25
"""Share of the phase over which one channel leaves."""


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
        self.relabel(layout, importance)
        for edge in graph.edges:
            if edge.frozen is None and edge.weight not in self._scales:
                weight = imported.tensor(edge.weight)
                scale = _Scale(torch.ones_like(self._shaped(edge, np.ones((1, 1)), weight)))
                for owner, attribute in _owners(imported.module, weight):
                    parametrize.register_parametrization(owner, attribute, scale, unsafe=True)
                    self._owners.append((owner, attribute))
                self._scales[edge.weight] = scale

    def relabel(self, layout: Layout, importance: FloatArray) -> None:
        """Changes the clusters; meant for while weights between clusters still count."""
        self.layout = layout
        self._leaves_at = np.full(self._graph.n_channels, np.inf)
        for group in self._graph.groups:
            leaving = group.channels[layout.labels[group.channels] == DROPPED]
            ranked = leaving[np.argsort(importance[leaving], kind="stable")]
            share = np.arange(len(ranked)) / max(len(ranked), 1)
            self._leaves_at[ranked] = (1.0 - (1.0 - share) ** (1.0 / 3.0)) * (ANNEALED_AT - FADE)

    def state(self) -> dict[str, torch.Tensor]:
        """Labels and order of leaving, for a checkpoint."""
        return {
            "labels": torch.from_numpy(self.layout.labels.copy()),
            "leaves_at": torch.from_numpy(self._leaves_at.copy()),
        }

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Takes up what `state` gave."""
        self.layout = Layout(state["labels"].numpy(), self.layout.clusters)
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
        """Sets all factors for a point (0..1) of the phase."""
        gate = np.clip((self._leaves_at + FADE - progress) / FADE, 0.0, 1.0)
        alpha = self.alpha(progress)
        labels = self.layout.labels
        for edge in self._graph.edges:
            if edge.frozen is not None:
                continue
            factor = gate[edge.out_channels][:, None] * gate[edge.in_channels][None, :]
            if self.layout.edge_clusters(self._graph, edge) > 1:
                same = labels[edge.out_channels][:, None] == labels[edge.in_channels][None, :]
                leaving = (labels[edge.out_channels] == DROPPED)[:, None] | (
                    labels[edge.in_channels] == DROPPED
                )[None, :]
                factor = factor * np.where(same | leaving, 1.0, alpha)
            scale = self._scales[edge.weight].tensor
            scale.copy_(self._shaped(edge, factor, self._imported.tensor(edge.weight)))

    def commit(self) -> None:
        """Makes the restricted weights the weights: everything outside the layout is zero."""
        self.advance(1.0)
        for owner, attribute in self._owners:
            parametrize.remove_parametrizations(owner, attribute)
        self._owners.clear()

    def _shaped(self, edge: WeightedEdge, factor: FloatArray, weight: torch.Tensor) -> torch.Tensor:
        """A factor [n_out, n_in] in the axes of the stored weight, to be broadcast over kernels."""
        out_axis = edge.out_axis
        if self._imported.bindings[edge.weight].transposed:
            out_axis = 1 - out_axis
        oriented = factor if out_axis == 0 else factor.T
        shape = (*weight.shape[:2], *[1] * (weight.ndim - 2))
        tensor = torch.from_numpy(np.ascontiguousarray(oriented)).to(weight)
        return tensor.expand(weight.shape[:2]).reshape(shape).contiguous()


def _owners(module: nn.Module, weight: torch.Tensor) -> list[tuple[nn.Module, str]]:
    """Every place that holds a weight: layers that share one must be restricted alike."""
    return [
        (owner, attribute)
        for owner in module.modules()
        for attribute, tensor in owner.named_parameters(recurse=False, remove_duplicate=False)
        if tensor is weight
    ]
