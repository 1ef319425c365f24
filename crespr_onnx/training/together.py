"""Several processes that train one model: what one does for all, and how the others learn of it."""

from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import (
    DistributedDataParallelKwargs,
    InitProcessGroupKwargs,
    broadcast_object_list,
)

from crespr_onnx import processes
from crespr_onnx.errors import CresprError

T = TypeVar("T")

_PATIENCE = timedelta(days=7)
"""How long a process waits for the main one, which may be compiling or searching meanwhile."""


def make_accelerator(*, unused_parameters: bool = False) -> Accelerator:
    """The machine that training runs on: a GPU per process, or CPUs.

    Args:
        unused_parameters: whether some parameters have no gradient.
    """
    return Accelerator(
        cpu=not torch.cuda.is_available(),
        # Precision is chosen per phase; accelerate would keep the first for the whole process.
        mixed_precision="no",
        gradient_accumulation_steps=1,
        kwargs_handlers=[
            InitProcessGroupKwargs(timeout=_PATIENCE),
            DistributedDataParallelKwargs(find_unused_parameters=unused_parameters),
        ],
    )


def on_main(work: Callable[[], T]) -> T:
    """Lets the main process do something, and gives its result, or its error, to all.

    Every process must come to this call. Without a launcher it is a plain call.

    Args:
        work: its result must be picklable if there are several processes.

    Raises:
        CresprError: what `work` raised in the main process.
    """
    if processes.count() == 1:
        return work()
    make_accelerator()
    outcome: list[tuple[T, None] | tuple[None, CresprError] | None] = [None]
    if processes.is_main():
        try:
            outcome = [(work(), None)]
        except CresprError as error:
            outcome = [(None, error)]
    broadcast_object_list(outcome)
    assert outcome[0] is not None
    result, failure = outcome[0]
    if failure is not None:
        raise failure
    return result  # type: ignore[return-value]
