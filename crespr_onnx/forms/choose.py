"""The choice itself: from times to forms, under the ratio that was asked for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from crespr_onnx.passes.layer_forms import Form

MARGIN = 0.03
"""Share of the time that another form must save: less is noise, and the choice would not be stable.
"""

Name = TypeVar("Name", bound=str)


@dataclass(frozen=True)
class Timed:
    """A unit with its forms' times.

    Attributes:
        times: milliseconds by form; without any for "grouped" that is the choice.
        extra: tells how many weights more the dense form stores than the grouped one; it is only
            asked where that form is the fastest.
    """

    times: Mapping[Form, float]
    extra: Callable[[], int]


@dataclass(frozen=True)
class Choice:
    """The form of a unit.

    Attributes:
        form: what was chosen.
        refused: whether the dense form would have been faster, but stores too much.
    """

    form: Form
    refused: bool = False


def choose(units: Sequence[Timed], allowance: int) -> list[Choice]:
    """The fastest form of each unit.

    Args:
        units: with their times.
        allowance: how many weights more than all of them grouped the model may store. Units whose
            dense form is the fastest get it by the time that they save per weight, as far as that
            reaches.
    """
    chosen = [fastest(_without_dense(unit.times), "grouped") for unit in units]
    wishes = []
    for i, unit in enumerate(units):
        best = unit.times.get(chosen[i], 0.0)
        dense = unit.times.get("dense", best)
        if dense < (1.0 - MARGIN) * best:
            extra = unit.extra()
            wishes.append((-(best - dense) / max(extra, 1), i, extra))
    refused = set()
    for _, i, extra in sorted(wishes):
        if extra <= allowance:
            allowance -= extra
            chosen[i] = "dense"
        else:
            refused.add(i)
    return [Choice(form, i in refused) for i, form in enumerate(chosen)]


def fastest(times: Mapping[Name, float], default: Name) -> Name:
    """The name with the least time, or the default where that does not save the margin."""
    if default not in times:
        return default
    best = min(times, key=lambda name: times[name])
    return best if times[best] < (1.0 - MARGIN) * times[default] else default


def _without_dense(times: Mapping[Form, float]) -> dict[Form, float]:
    return {form: time for form, time in times.items() if form != "dense"}
