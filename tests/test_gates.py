"""The gates at their edges: what just passes, what just fails, and what is said about it."""

from dataclasses import replace
from math import nan
from pathlib import Path

import pytest

from crespr_onnx.errors import AccuracyGateError, SpeedGateError
from crespr_onnx.record import Latency, Metric, Ratio, RemoteLatency, Report
from crespr_onnx.settings import CompressSettings
from crespr_onnx.stages.gates import check_gates, remarks, speed_up

SETTINGS = CompressSettings(Path("m.onnx"), 0.9, max_drop=0.05, min_speedup=2.0)
LATENCY = Latency(1, 1, 4.0, 2.0, None, "by hand")


def metric(dense: float, compressed: float) -> Report:
    return Report("ok", 0, metric=Metric("accuracy", dense, compressed, dense - compressed, 100))


def ratio(requested: float, before: int, after: int) -> Report:
    physical = 1.0 - after / before
    return Report("ok", 0, ratio=Ratio(requested, physical, before, after, 0, 0, 0, 0))


def latency(dense: float, compressed: float, tvm: float | None = None) -> Report:
    times = replace(
        LATENCY, dense_onnxruntime=dense, compressed_onnxruntime=compressed, compressed_tvm=tvm
    )
    return Report("ok", 0, latency_ms=times)


def test_nothing_measured_is_nothing_failed() -> None:
    assert check_gates(SETTINGS, Report("ok", 0)) == []


@pytest.mark.parametrize(
    ("dense", "compressed"),
    # Exactly five points, which binary fractions make 0.05000000000000004 and the like.
    [(0.9, 0.85), (0.95, 0.9), (0.6, 0.55), (0.9, 0.95), (0.9, 0.9)],
)
def test_a_drop_as_large_as_is_allowed_passes(dense: float, compressed: float) -> None:
    assert check_gates(SETTINGS, metric(dense, compressed)) == []


def test_a_larger_drop_fails() -> None:
    (error,) = check_gates(SETTINGS, metric(0.9, 0.8499))
    assert isinstance(error, AccuracyGateError)
    assert str(error) == (
        "accuracy fell by 0.0501, from 0.9000 to 0.8499; --max-drop allows 0.05: train longer "
        "(--epochs) or lower --ratio"
    )


def test_no_drop_is_allowed_and_none_is_there() -> None:
    strict = replace(SETTINGS, max_drop=0.0)
    assert check_gates(strict, metric(0.9, 0.9)) == []
    assert len(check_gates(strict, metric(0.9, 0.89))) == 1


def test_a_metric_that_is_not_a_number_fails() -> None:
    (error,) = check_gates(SETTINGS, metric(1.0, nan))
    assert str(error).startswith("accuracy fell by nan, from 1.0000 to nan; --max-drop allows 0.05")


@pytest.mark.parametrize("tenths", range(1, 10))
def test_a_ratio_exactly_reached_passes(tenths: int) -> None:
    # 1 - 0.9 is less than 0.1 in binary fractions.
    assert check_gates(SETTINGS, ratio(tenths / 10, 1000, 1000 - 100 * tenths)) == []


def test_one_weight_too_many_fails() -> None:
    (error,) = check_gates(SETTINGS, ratio(0.9, 100_000, 10_001))
    assert isinstance(error, SpeedGateError)
    assert str(error) == ("the emitted model has a physical ratio of 0.8999; --ratio asks for 0.9")


def work(requested: float | None, before: int, after: int) -> Report:
    return Report("ok", 0, ratio=Ratio(0.5, 0.5, 2, 1, before, after, 0, 0, requested))


@pytest.mark.parametrize("tenths", range(1, 10))
def test_multiply_accumulates_exactly_reached_pass(tenths: int) -> None:
    assert check_gates(SETTINGS, work(tenths / 10, 1000, 1000 - 100 * tenths)) == []
    assert check_gates(SETTINGS, work(None, 1000, 1000)) == []


def test_one_multiply_accumulate_too_many_fails() -> None:
    (error,) = check_gates(SETTINGS, work(0.9, 100_000, 10_001))
    assert isinstance(error, SpeedGateError)
    assert str(error) == (
        "the emitted model saves 0.8999 of the multiply-accumulates; --mac-ratio asks for 0.9"
    )


def test_speed_is_that_of_the_best_that_is_delivered() -> None:
    assert speed_up(replace(LATENCY, compressed_tvm=None)) == 2.0
    assert speed_up(replace(LATENCY, compressed_tvm=1.0)) == 4.0
    assert speed_up(replace(LATENCY, compressed_tvm=8.0)) == 2.0


def test_a_model_that_is_too_slow_fails() -> None:
    assert check_gates(SETTINGS, latency(4.0, 2.0)) == []
    assert check_gates(SETTINGS, latency(4.0, 3.0, tvm=1.0)) == []
    (error,) = check_gates(SETTINGS, latency(4.0, 2.5))
    assert isinstance(error, SpeedGateError)
    assert str(error) == (
        "the compressed model is 1.60 times as fast as the dense one in ONNX Runtime; "
        "--min-speedup asks for 2"
    )


def test_another_machine_is_compared_with_itself_only() -> None:
    # In ONNX Runtime, on this machine, it is twice as fast.
    times = replace(LATENCY, remote=RemoteLatency("pi:9090", 3.0, 2.0, "by hand"))
    assert speed_up(times) == 1.5
    (error,) = check_gates(SETTINGS, Report("ok", 0, latency_ms=times))
    assert isinstance(error, SpeedGateError)
    assert str(error) == (
        "on pi:9090 the compressed artefact is 1.50 times as fast as the dense one, both compiled "
        "by TVM; --min-speedup asks for 2"
    )


def test_all_failures_are_told_the_accuracy_first() -> None:
    report = replace(
        metric(0.9, 0.5), ratio=ratio(0.9, 10, 5).ratio, latency_ms=latency(1, 1).latency_ms
    )
    assert [error.exit_code for error in check_gates(SETTINGS, report)] == [5, 6, 6]


def test_an_artefact_slower_than_the_model_is_remarked() -> None:
    assert remarks(latency(4.0, 2.0)) == []
    assert remarks(latency(4.0, 2.0, tvm=2.0)) == []
    assert remarks(latency(4.0, 2.0, tvm=5.0)) == [
        "the compiled artefact is 2.5 times slower than ONNX Runtime on model.onnx; deploy "
        "model.onnx where you can choose"
    ]
