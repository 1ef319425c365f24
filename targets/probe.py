"""What the machine can do at best: the roof that no model's time comes under.

The two ceilings of the roofline model (Williams, Waterman, Patterson, CACM 52(4), 2009,
doi 10.1145/1498765.1498785), measured with the products of numpy and of ONNX Runtime.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from crespr_onnx.targets.stopwatch import onnx_runner

SIDES = (256, 512, 1024)
"""Sides of the square matrices that are multiplied; small ones suit caches, large ones threads."""
SECONDS = 0.15
"""How long each probe is repeated. The fastest repeat counts: it is a ceiling that is wanted."""
LEAST_BYTES = 2**18
"""Below this, calling numpy takes longer than reading the memory."""
MOST_BYTES = 2**28
"""Above this, no cache holds any of it."""
COLUMNS = 256


def probe_machine(footprints: Sequence[int], threads: int) -> dict[str, Any]:
    """Peak arithmetic and memory bandwidth with so many threads.

    To be called in a process whose BLAS has been given as many threads.

    Args:
        footprints: sizes in bytes of what is read again and again; they count as at least
            `LEAST_BYTES` and at most `MOST_BYTES`.
        threads: threads that read.

    Returns:
        ``gflops``, 10^9 additions and multiplications per second in float32, and ``gigabytes``,
        10^9 bytes read or written per second for each of the footprints, in their order.
    """
    # The pool of ONNX Runtime's threads, which wait busily, comes last.
    with ThreadPoolExecutor(threads) as pool:
        bandwidths = {size: _bandwidth(size, threads, pool) for size in sorted(set(footprints))}
    gflops = [2e-9 * side**3 / _best(_numpy_product(side)) for side in SIDES]
    gflops += [2e-9 * side**3 / _best(_onnx_product(side, threads)) for side in SIDES]
    return {
        "gflops": max(gflops),
        "gigabytes": [bandwidths[size] for size in footprints],
    }


def _numpy_product(side: int) -> Callable[[], object]:
    a = np.ones((side, side), np.float32)
    out = np.empty_like(a)
    return lambda: np.matmul(a, a, out=out)


def _onnx_product(side: int, threads: int) -> Callable[[], object]:
    """A product with a constant matrix, which ONNX Runtime packs beforehand."""
    shape = f"float[{side}, {side}]"
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g ({shape} x) => ({shape} y) '
        "{ y = MatMul (x, w) }"
    )
    ones = np.ones((side, side), np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(ones, "w"))
    with tempfile.TemporaryDirectory(prefix="crespr-onnx-") as folder:
        path = Path(folder) / "product.onnx"
        onnx.save(model, path)
        return onnx_runner(str(path), {"x": ones}, threads)


def _bandwidth(footprint: int, threads: int, pool: ThreadPoolExecutor) -> float:
    """The best of three ways to go over a buffer: a product, the maximum, a copy of one half."""
    rows = min(max(footprint, LEAST_BYTES), MOST_BYTES) // (4 * COLUMNS)
    matrix = np.ones((rows, COLUMNS), np.float32)
    vector, product = np.ones(COLUMNS, np.float32), np.empty(rows, np.float32)
    parts = [p for p in np.array_split(matrix, threads) if len(p)]
    halves = [np.array_split(p[: len(p) // 2 * 2], 2) for p in parts]

    # Handing a task to a pool takes longer than reading a small buffer.
    each = map if threads == 1 else pool.map
    ways: list[Callable[[], object]] = [
        lambda: np.matmul(matrix, vector, out=product),
        lambda: list(each(np.max, parts)),
        lambda: list(each(_copy, halves)),
    ]
    return 1e-9 * matrix.nbytes / min(map(_best, ways))


def _copy(pair: list[NDArray[np.float32]]) -> None:
    np.copyto(pair[0], pair[1])


def _best(call: Callable[[], object]) -> float:
    """Seconds of the fastest of many calls."""
    call()
    best, start = float("inf"), time.perf_counter()
    while True:
        before = time.perf_counter()
        call()
        after = time.perf_counter()
        best = min(best, after - before)
        if after - start > SECONDS:
            return best
