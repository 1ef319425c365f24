"""Times are consistent, whatever they are."""

from pathlib import Path

import numpy as np
import pytest
from bench_folders import small_mlp
from pipeline_models import write_mlp

from crespr_onnx.bench.timing import ONE_PROCESS, OWN_PROCESSES, Engine, time_engines
from crespr_onnx.errors import CompileError


@pytest.mark.parametrize(
    ("threads", "turns", "method"), [(1, 4, ONE_PROCESS), (2, 6, OWN_PROCESSES)]
)
def test_medians_lie_within_quartiles(
    tmp_path: Path, threads: int, turns: int, method: str
) -> None:
    engines = [
        Engine("dense", write_mlp(tmp_path), "onnxruntime"),
        Engine("small", small_mlp(tmp_path / "small.onnx"), "onnxruntime"),
    ]
    x = np.ones((2, 8), np.float32)
    found = time_engines(engines, {"x": x}, threads, repeats=4, turn_seconds=0.001)
    assert len(found) == 2
    for timing in found:
        assert 0 < timing.q1_ms <= timing.median_ms <= timing.q3_ms
        assert (timing.turns, timing.method) == (turns, method)


def test_no_more_processes_than_turns(tmp_path: Path) -> None:
    engine = Engine("dense", write_mlp(tmp_path), "onnxruntime")
    x = np.ones((2, 8), np.float32)
    (timing,) = time_engines([engine], {"x": x}, threads=2, repeats=1, turn_seconds=0.001)
    assert timing.turns == 1


def test_an_engine_that_does_not_run(tmp_path: Path) -> None:
    engine = Engine("gone", tmp_path / "gone.onnx", "onnxruntime")
    with pytest.raises(CompileError, match=r"the process that was to time the artefact failed: "):
        time_engines([engine], {"x": np.ones((2, 8), np.float32)}, 1, repeats=1)
