"""Work, peaks and floors, computed again by hand."""

from pathlib import Path

import pytest
from pipeline_models import write_mlp

from crespr_onnx.bench.floor import Call, Floor, Work, floor_of, model_record, raise_peaks
from crespr_onnx.bench.settings import BenchSettings
from crespr_onnx.bench.subjects import read_subjects
from crespr_onnx.targets.check import Peak
from crespr_onnx.targets.probe import LEAST_BYTES, MOST_BYTES

SIZE = LEAST_BYTES


def test_what_a_model_stores_and_computes(tmp_path: Path) -> None:
    (subject,) = read_subjects(BenchSettings((write_mlp(tmp_path),)))
    record = model_record(subject.contestants[0], subject)
    assert record.macs == 8 * 16 + 16 * 16 + 16 * 3
    assert record.weight_bytes == 4 * (432 + 16 + 3)
    assert (record.name, record.path) == ("mlp", str(tmp_path / "mlp.onnx"))
    assert record.bytes == (tmp_path / "mlp.onnx").stat().st_size


@pytest.mark.parametrize(
    ("size", "footprint"),
    [(0, LEAST_BYTES), (SIZE + 5, SIZE), (5 * SIZE, 4 * SIZE), (2**40, MOST_BYTES)],
)
def test_footprints_are_powers_of_two(size: int, footprint: int) -> None:
    assert Work(1, size).footprint == footprint


def test_the_floor_is_the_slower_of_both() -> None:
    peak = Peak(1, gflops=100.0, gigabytes={SIZE: 50.0})
    # 50e6 MACs are 1e8 operations: 1 ms at 1e11 per second. 50e3 bytes: 1e-3 ms at 5e10.
    found = floor_of(Work(50_000_000, 50_000), peak)
    assert found is not None
    assert found.bound_by == "macs"
    assert found.milliseconds == pytest.approx(1.0)
    found = floor_of(Work(50, 50_000), peak)
    assert found is not None
    assert found.bound_by == "bytes"
    assert found.milliseconds == pytest.approx(1e-3)
    assert floor_of(Work(None, 50_000), peak) is None


def test_a_model_faster_than_the_probe_raises_the_peak() -> None:
    probed = [Peak(1, 100.0, {SIZE: 50.0}), Peak(2, 90.0, {SIZE: 60.0})]
    fast = Call(Work(100_000_000, 10), threads=1, milliseconds=1.0)  # 200 GFLOP/s
    one, two = raise_peaks(probed, [fast])
    assert one == Peak(1, pytest.approx(200.0), {SIZE: 50.0})
    assert two == Peak(2, pytest.approx(200.0), {SIZE: 60.0})
    assert floor_of(fast.work, one) == Floor(pytest.approx(1.0), "macs")


def test_what_several_threads_reached_says_nothing_of_one() -> None:
    probed = [Peak(1, 100.0, {SIZE: 50.0}), Peak(2, 90.0, {SIZE: 40.0})]
    reader = Call(Work(None, 200_000), threads=2, milliseconds=0.002)  # 100 GB/s
    one, two = raise_peaks(probed, [reader])
    assert one == probed[0]
    assert two == Peak(2, 100.0, {SIZE: pytest.approx(100.0)})
