"""Reductions over the last axis, on vectors.

A vector of partial results runs over the row. What is left of a row that is not a whole number of
vectors is read by one more vector that ends where the row ends; its lanes that have been seen
before are left out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import te, tirx

from crespr_onnx.targets.schedule import annotations as mark
from crespr_onnx.targets.schedule.machine import Machine


@dataclass(frozen=True)
class Fold:
    """An associative operation.

    Attributes:
        reduce: over an axis, as `te.sum`.
        join: of two values.
        neutral: what changes nothing.
    """

    reduce: Callable[..., Any]
    join: Callable[..., Any]
    neutral: float


SUM = Fold(te.sum, lambda a, b: a + b, 0.0)
MAX = Fold(te.max, tirx.max, float("-inf"))
MIN = Fold(te.min, tirx.min, float("inf"))


def width_for(machine: Machine, length: int) -> int:
    """Lanes of the widest vector that a row fills; 1 if it fills none."""
    return next((width for width in machine.widths if width <= length), 1)


def fold_rows(
    fold: Fold,
    lead: list[int],
    length: int,
    lanes: int,
    value: Callable[..., Any],
    name: str,
) -> te.Tensor:
    """Each row to one number.

    Args:
        fold: the operation.
        lead: extents of the axes in front of the last, at least one.
        length: extent of the last axis, at least `lanes`.
        lanes: width of the vectors.
        value: of a position in a row, called with the leading index and the position.
        name: begins the names of the stages.
    """
    chunk = te.reduce_axis((0, length // lanes), name="chunk")
    parts = te.compute(
        (*lead, lanes),
        lambda *i: fold.reduce(value(i[:-1], chunk * lanes + i[-1]), axis=chunk),
        name=f"{name}_parts",
        attrs={mark.STAGE: 1, mark.KERNEL: "rows", mark.ROWS: len(lead)},
    )
    rest = length % lanes

    def with_rest(*i):  # type: ignore[no-untyped-def]  # noqa: ANN002, ANN202
        last = value(i[:-1], length - lanes + i[-1])
        unseen = tirx.Select(i[-1] >= lanes - rest, last, tirx.const(fold.neutral, "float32"))
        return fold.join(parts(*i), unseen)

    line = parts
    if rest:
        line = te.compute((*lead, lanes), with_rest, name=f"{name}_whole", attrs={mark.STAGE: 1})
    while lanes > 1:
        lanes //= 2
        line = _halve(fold, lead, line, lanes, f"{name}_{lanes}")
    return te.compute(tuple(lead), lambda *i: line(*i, 0), name=name)


def _halve(fold: Fold, lead: list[int], line: te.Tensor, lanes: int, name: str) -> te.Tensor:
    """The halves of a vector folded onto one another."""
    return te.compute(
        (*lead, lanes),
        lambda *i: fold.join(line(*i), line(*i[:-1], i[-1] + lanes)),
        name=name,
        attrs={mark.STAGE: 1, mark.LANES: lanes},
    )
