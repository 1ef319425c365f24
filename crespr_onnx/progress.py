"""How a long run tells what it is doing, to whoever wants to show it."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """One sign of life.

    Attributes:
        stage: what is being done, in words.
        done: share of the stage that is done, 0 to 1, or None where nobody can tell.
        detail: what else is worth showing, such as the loss.
    """

    stage: str
    done: float | None = None
    detail: str = ""


Listener = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """The listener of those who do not want to know."""
