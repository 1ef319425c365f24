"""Second moments of what layers read and answer, streamed over calibration batches.

Only sums are held, in float64: for an edge of n inputs (times taps) and m outputs about
(n + 1)^2 + m (n + 2) numbers, however many samples and patches go by.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from crespr_onnx.layout import WeightedEdge
from crespr_onnx.training.importer import ImportedModel
from crespr_onnx.training.objective import Batch
from crespr_onnx.training.patches import row_blocks

FloatArray = NDArray[np.float64]

MAX_INPUTS = 8192
"""Most inputs, times taps, of an edge whose moments are taken: beyond it they fill half a GB."""
AT_ONCE = 2**26
"""Most numbers that the moments of several edges hold together: half a GB."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Means over rows: x is what an edge reads, with a 1 at its end, y what it should answer.

    Attributes:
        gram: E[x x^T], shape [n + 1, n + 1].
        cross: E[y x^T], shape [m, n + 1].
        energy: E[y^2], shape [m].
        rows: how many rows the means are over.
    """

    gram: FloatArray
    cross: FloatArray
    energy: FloatArray
    rows: int

    @property
    def is_finite(self) -> bool:
        """Whether there was anything to see, and all of it was numbers."""
        return self.rows > 0 and all(
            bool(np.isfinite(a).all()) for a in (self.gram, self.cross, self.energy)
        )


class MomentSums:
    """The sums that `Moments` are made of.

    Args:
        n: inputs of the edge, times taps.
        m: its outputs.
    """

    def __init__(self, n: int, m: int) -> None:
        self._gram = torch.zeros(n, n, dtype=torch.float64)
        self._sum = torch.zeros(n, dtype=torch.float64)
        self._cross = torch.zeros(m, n, dtype=torch.float64)
        self._answers = torch.zeros(m, dtype=torch.float64)
        self._energy = torch.zeros(m, dtype=torch.float64)
        self._rows = 0

    def add(self, x: Tensor, y: Tensor) -> None:
        """Adds rows read, [rows, n], and rows answered, [rows, m]."""
        x, y = (t.detach().to("cpu", torch.float64) for t in (x, y))
        self._gram.addmm_(x.T, x)
        self._cross.addmm_(y.T, x)
        self._sum += x.sum(dim=0)
        self._answers += y.sum(dim=0)
        self._energy += y.square().sum(dim=0)
        self._rows += len(x)

    def means(self) -> Moments:
        """The moments of all rows so far."""
        n, rows = len(self._sum), max(self._rows, 1)
        gram = np.empty((n + 1, n + 1))
        gram[:n, :n] = self._gram.numpy() / rows
        gram[n, :n] = gram[:n, n] = self._sum.numpy() / rows
        gram[n, n] = 1.0
        cross = np.column_stack([self._cross.numpy(), self._answers.numpy()]) / rows
        return Moments(gram, cross, self._energy.numpy() / rows, self._rows)


def stream_moments(
    imported: ImportedModel, edges: Sequence[WeightedEdge], batches: Sequence[Batch]
) -> Iterator[tuple[WeightedEdge, Moments]]:
    """Moments of edges in one model, as many edges in one pass as memory allows.

    Args:
        imported: the model; it is left in inference mode.
        edges: those to look at, readable ones (`why_unreadable`) of at most `MAX_INPUTS` inputs.
        batches: calibration data.
    """
    for some in _in_turns(edges):
        answers = inner_values(imported, some)
        rng = np.random.default_rng(0)
        sums = {e.name: MomentSums(width_of(e), len(e.out_channels)) for e in some}
        with torch.no_grad():
            for batch in batches:
                for edge, (x, y) in zip(some, answers(*batch.inputs), strict=True):
                    for rows in row_blocks(imported, edge, x, y, rng):
                        sums[edge.name].add(*rows)
        for edge in some:
            yield edge, sums.pop(edge.name).means()


def width_of(edge: WeightedEdge) -> int:
    """Inputs of an edge, times taps."""
    return len(edge.in_channels) * edge.kernel


def inner_values(imported: ImportedModel, edges: Sequence[WeightedEdge]) -> fx.GraphModule:
    """The part of a model that comes before edges, with the weights of the model itself.

    Returns:
        A module in inference mode that gives, per edge, what it reads and what it answers.
    """
    imported.module.eval()
    nodes = {node.target: node for node in imported.module.graph.nodes if node.op == "call_module"}
    wanted = [nodes[imported.modules[edge.name]] for edge in edges]
    needed = _ancestors(wanted)
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in imported.module.graph.nodes:
        if node in needed or node.op == "placeholder":
            copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(tuple((copies[node].args[0], copies[node]) for node in wanted))
    return fx.GraphModule(imported.module, graph).eval()


def _ancestors(nodes: Sequence[fx.Node]) -> set[fx.Node]:
    """All that nodes are computed from, and they themselves."""
    found: set[fx.Node] = set()
    left = list(nodes)
    while left:
        node = left.pop()
        if node not in found:
            found.add(node)
            left += node.all_input_nodes
    return found


def _in_turns(edges: Sequence[WeightedEdge]) -> Iterator[list[WeightedEdge]]:
    """Edges in their order, cut where their moments would hold too many numbers."""
    turn: list[WeightedEdge] = []
    held = 0
    for edge in edges:
        size = width_of(edge) * (width_of(edge) + len(edge.out_channels))
        if turn and held + size > AT_ONCE:
            yield turn
            turn, held = [], 0
        turn.append(edge)
        held += size
    if turn:
        yield turn
