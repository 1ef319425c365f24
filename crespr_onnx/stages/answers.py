"""What a model answers to samples: the outputs that hold something for each of them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from crespr_onnx.data import Samples
from crespr_onnx.graph.session import make_session, run

_BATCH = 256

Answers = tuple[NDArray[np.float32] | None, ...]
"""Per output [samples, ...], or None where it is no floating-point tensor with a row per sample."""


def answers_of(
    model: ir.Model,
    samples: Samples,
    threads: int,
    done: Callable[[float], None] | None = None,
    outputs: Sequence[str] | None = None,
) -> Answers:
    """Runs a model on all samples.

    Args:
        model: the model.
        samples: what to run it on.
        threads: threads for ONNX Runtime.
        done: told the share of the samples that is behind.
        outputs: names of the outputs to keep, all if not given.
    """
    session = make_session(model, threads=threads)
    parts: dict[str, list[NDArray[np.float32]]] = {}
    rows_missing: set[str] = set()
    behind = 0
    for batch in samples.batches(_BATCH):
        n = len(next(iter(batch.values())))
        for name, array in run(session, batch).items():
            if outputs is not None and name not in outputs:
                continue
            rows = parts.setdefault(name, [])
            if _has_rows(array, n):
                rows.append(array.astype(np.float32))
            else:
                rows_missing.add(name)
        if len(rows_missing) == len(parts):
            break
        behind += n
        if done is not None:
            done(behind / len(samples))
    return tuple(
        None if name in rows_missing else np.concatenate(rows) for name, rows in parts.items()
    )


def _has_rows(array: NDArray[Any], samples: int) -> bool:
    return array.dtype.kind == "f" and array.shape[:1] == (samples,)
