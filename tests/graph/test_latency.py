"""Timing side by side."""

import time

import numpy as np
import onnx
import pytest

from crespr_onnx.errors import ModelError
from crespr_onnx.graph.latency import time_calls, time_models


def matmul(n: int, times: int) -> onnx.ModelProto:
    """x @ x @ ... on [n, n]: cheap to build, and as slow as one likes."""
    steps = [f"h{i + 1} = MatMul(h{i}, x)" for i in range(times)]
    return onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["" : 17]>
        net (float[{n},{n}] x) => (float[{n},{n}] y)
        {{ h0 = Identity(x)
           {"  ".join(steps)}
           y = Identity(h{times}) }}""")


def test_more_work_takes_longer() -> None:
    x = {"x": np.eye(96, dtype=np.float32)}
    models = {"short": matmul(96, 1), "long": matmul(96, 40)}
    latency = time_models(models, x, rounds=5, turn_seconds=0.01)
    assert list(latency) == ["short", "long"]
    assert latency["long"].median_ms > 3 * latency["short"].median_ms > 0
    for result in latency.values():
        assert result.p10_ms <= result.median_ms <= result.p90_ms
        assert result.calls >= 5


def test_calls_take_turns() -> None:
    order: list[str] = []
    time_calls(
        {name: lambda name=name: order.append(name) for name in "ab"},  # type: ignore[misc]
        rounds=2,
        turn_seconds=0.0,
    )
    assert "".join(order) == "ab" + "ab" + "ba"


def test_the_median_is_of_single_calls() -> None:
    latency = time_calls({"nap": lambda: time.sleep(0.002)}, rounds=3, turn_seconds=0.01)["nap"]
    assert 2.0 <= latency.median_ms < 20.0


def test_the_time_is_bounded() -> None:
    start = time.perf_counter()
    latency = time_calls(
        {"nap": lambda: time.sleep(0.05)}, rounds=1000, turn_seconds=0.0, max_seconds=0.1
    )
    assert time.perf_counter() - start < 1.0
    assert 1 <= latency["nap"].calls <= 3


def test_at_least_one_round_counts() -> None:
    latency = time_calls({"nap": lambda: time.sleep(0.01)}, turn_seconds=0.0, max_seconds=0.0)
    assert latency["nap"].calls == 1


def test_inputs_that_do_not_fit() -> None:
    with pytest.raises(ModelError, match="cannot run the model on inputs x"):
        time_models({"net": matmul(4, 1)}, {"x": np.zeros((3, 3), np.float32)})
