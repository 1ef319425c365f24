"""Values in another form, made on demand.

A *form* of a value holds the same numbers in other tensors: its channels cut into parts, or the
clusters on an axis of their own. Some values come in a form anyway (the inputs of a Concat are the
parts of its output); operators that treat all channels alike can pass a form on. `Forms` walks up
from a value that is wanted in a form, and when the walk ends at such sources, rebuilds the
operators in between on the form, each once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import onnx_ir as ir

from crespr_onnx.passes.surgery import remove_dead, take_over

Kind = TypeVar("Kind")
Form = tuple[ir.Value, ...]


@dataclass(frozen=True, eq=False)
class Step(Generic[Kind]):
    """How the output of a node in a form follows from its inputs in a form.

    Attributes:
        needs: inputs that must be there in a form, and in which.
        build: makes the node for one part, not yet in the graph, from the index of the part and
            that part of each of the needs.
    """

    needs: tuple[tuple[ir.Value, Kind], ...]
    build: Callable[[int, Sequence[ir.Value]], ir.Node]


@dataclass(frozen=True, eq=False)
class Forms(Generic[Kind]):
    """Makes forms of the values of one graph.

    Attributes:
        graph: the graph.
        source: the form that a value comes in anyway, or None.
        step: how a node passes a form of its only used output on, or None if it cannot.
        parts: number of tensors of a form.
        whole: makes the nodes, not yet in the graph, that turn a form back into the value; the
            last of them yields it.
        given: forms that callers offer besides, by value and kind.
        known: forms found at a source or built.
        built: the values whose form was built, in that order, with its kind.
    """

    graph: ir.Graph
    source: Callable[[ir.Value, Kind], Form | None]
    step: Callable[[ir.Node, Kind], Step[Kind] | None]
    parts: Callable[[Kind], int]
    whole: Callable[[ir.Value, Kind, Form], list[ir.Node]]
    given: dict[tuple[ir.Value, Kind], Form] = field(default_factory=dict)
    known: dict[tuple[ir.Value, Kind], Form] = field(default_factory=dict)
    built: dict[ir.Value, Kind] = field(default_factory=dict)

    def get(self, value: ir.Value, kind: Kind) -> Form | None:
        """The form of a value, built if it can be, else None (the graph is unchanged then).

        A value that rests on given forms alone, and on no source, gets none: nothing is gained.
        """
        if (value, kind) in self.known:
            return self.known[value, kind]
        steps: dict[tuple[ir.Value, Kind], Step[Kind] | Form] = {}
        sourced: set[tuple[ir.Value, Kind]] = set()
        if not self._plan(value, kind, steps, sourced) or (value, kind) not in sourced:
            return None
        for key, step in steps.items():  # operands come before what is made from them
            if isinstance(step, Step):
                self._build(*key, step)
            elif key not in self.given:
                self.known[key] = step
        return self.known[value, kind]

    def _plan(
        self,
        value: ir.Value,
        kind: Kind,
        steps: dict[tuple[ir.Value, Kind], Step[Kind] | Form],
        sourced: set[tuple[ir.Value, Kind]],
    ) -> bool:
        """Fills `steps`, operands first, and tells whether the form can be made.

        Walks without recursion: residual networks are deeper than Python's stack.
        """
        pending: list[tuple[tuple[ir.Value, Kind], Step[Kind] | None]] = [((value, kind), None)]
        while pending:
            key, step = pending.pop()
            if key in steps:
                continue
            if step is not None:
                steps[key] = step
                if any(need in sourced for need in step.needs):
                    sourced.add(key)
                continue
            form = self.known.get(key) or self.source(*key)
            if form is not None:
                sourced.add(key)
            form = form or self.given.get(key)
            if form is not None:
                steps[key] = form
                continue
            node = key[0].producer()
            if node is None or node.graph is not self.graph:
                return False
            if any(v.uses() or v.is_graph_output() for v in node.outputs[1:]):
                return False
            step = self.step(node, key[1])
            if step is None:
                return False
            pending.append((key, step))
            pending.extend((need, None) for need in step.needs)
        return True

    def _build(self, value: ir.Value, kind: Kind, step: Step[Kind]) -> None:
        operands = [self.known.get(need) or self.given[need] for need in step.needs]
        nodes = [step.build(i, [form[i] for form in operands]) for i in range(self.parts(kind))]
        producer = value.producer()
        if producer is None:
            raise TypeError(f"{value.name!r} has no producer, so no form of it can be built")
        self.graph.insert_before(producer, nodes)
        self.known[value, kind] = tuple(node.outputs[0] for node in nodes)
        self.built.setdefault(value, kind)

    def finish(self) -> None:
        """Values in a form that are still needed whole are put together from it.

        Without this they would be computed twice. Call it once, when all forms are made.
        """
        # From the end: what a later value still needs of an earlier one shows only then.
        for value, kind in reversed(self.built.items()):
            producer = value.producer()
            if producer is None or producer.graph is not self.graph:
                continue
            if value.uses() or value.is_graph_output():
                nodes = self.whole(value, kind, self.known[value, kind])
                self.graph.insert_before(producer, nodes)
                take_over(nodes[-1].outputs[0], value)
            remove_dead([value])
        self.graph.sort()
