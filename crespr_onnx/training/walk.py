"""Follows a model through its layers, for all calibration batches side by side.

Whoever changes a layer before the next one is looked at needs what each of them reads with all that
came before as it is now. A walk computes every layer once, as long as the values that later layers
still need fit into memory for all batches together; else it starts from the inputs each time.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor, fx

from crespr_onnx.layout import WeightedEdge
from crespr_onnx.training.calibration import inner_values
from crespr_onnx.training.importer import ImportedModel
from crespr_onnx.training.objective import Batch

HELD = 2**28
"""Most bytes of values that are held between two layers."""


class Walk(Protocol):
    """Values per batch; edges must come in the order of the model's execution."""

    def reads(self, edge: WeightedEdge) -> Iterator[Tensor]:
        """What an edge reads; it must not have been computed yet."""
        ...

    def answers(self, edge: WeightedEdge) -> Iterator[Tensor]:
        """What an edge answers."""
        ...


def walk(imported: ImportedModel, batches: Sequence[Batch], held: int = HELD) -> Walk:
    """A walk through a model, which is put into inference mode.

    Args:
        imported: the model; its weights may change behind the last edge that was looked at.
        batches: calibration data; only the inputs are read.
        held: most bytes to hold.
    """
    imported.module.eval()
    if not batches or _most_bytes(imported, batches[0]) * len(batches) <= held:
        return _Holding(imported, batches)
    return _Starting(imported, batches)


def execution_order(imported: ImportedModel, edges: Sequence[WeightedEdge]) -> list[WeightedEdge]:
    """Edges in the order in which the model computes them; those without a module come last."""
    places = {node.target: i for i, node in enumerate(imported.module.graph.nodes)}
    last = len(places)
    return sorted(edges, key=lambda e: places.get(imported.modules.get(e.name, ""), last))


class _Starting:
    """Holds nothing."""

    def __init__(self, imported: ImportedModel, batches: Sequence[Batch]) -> None:
        self._imported, self._batches = imported, batches

    def reads(self, edge: WeightedEdge) -> Iterator[Tensor]:
        """See `Walk`."""
        return (read for read, _ in self._values(edge))

    def answers(self, edge: WeightedEdge) -> Iterator[Tensor]:
        """See `Walk`."""
        return (answers for _, answers in self._values(edge))

    def _values(self, edge: WeightedEdge) -> Iterator[tuple[Tensor, Tensor]]:
        inner = inner_values(self._imported, [edge])
        for batch in self._batches:
            with torch.no_grad():
                yield inner(*batch.inputs)[0]


class _Holding:
    """Holds what later nodes need."""

    def __init__(self, imported: ImportedModel, batches: Sequence[Batch]) -> None:
        self._imported = imported
        self._runs = [_Run(imported.module, batch) for batch in batches]

    def reads(self, edge: WeightedEdge) -> Iterator[Tensor]:
        """See `Walk`."""
        return (run.read(self._imported.modules[edge.name]) for run in self._runs)

    def answers(self, edge: WeightedEdge) -> Iterator[Tensor]:
        """See `Walk`."""
        return (run.answer(self._imported.modules[edge.name]) for run in self._runs)


class _Run:
    """One batch on its way through a module."""

    def __init__(self, module: fx.GraphModule, batch: Batch) -> None:
        self._interpreter = fx.Interpreter(module)
        self._interpreter.args_iter = iter(batch.inputs)
        self._left = list(module.graph.nodes)[::-1]

    @property
    def done(self) -> bool:
        """Whether nothing is left to compute."""
        return not self._left

    @property
    def held_bytes(self) -> int:
        """Size of what later nodes need, weights aside."""
        values = [v for node, v in self._interpreter.env.items() if node.op != "get_attr"]
        return sum(v.numel() * v.element_size() for v in values if isinstance(v, Tensor))

    def read(self, target: str) -> Tensor:
        """What a module reads, which is the next thing to be computed then."""
        while self._left[-1].target != target:
            self.step()
        read: Tensor = self._interpreter.env[self._left[-1].args[0]]
        return read

    def answer(self, target: str) -> Tensor:
        """What a module answers."""
        self.read(target)
        answer = self.step()
        assert isinstance(answer, Tensor)
        return answer

    @torch.no_grad()
    def step(self) -> object:
        """Computes the next node, and drops what is not needed any more."""
        interpreter, node = self._interpreter, self._left.pop()
        interpreter.env[node] = value = interpreter.run_node(node)
        for needed in interpreter.user_to_last_uses.get(node, []):
            del interpreter.env[needed]
        return value


def _most_bytes(imported: ImportedModel, batch: Batch) -> int:
    """The most bytes that one batch needs between two nodes."""
    run, most = _Run(imported.module, batch), 0
    while not run.done:
        run.step()
        most = max(most, run.held_bytes)
    return most
