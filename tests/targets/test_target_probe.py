"""The machine's peak, and times turn by turn."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from crespr_onnx.targets import probe
from crespr_onnx.targets.check import probe_peak, time_artefacts


def test_probe_measures_every_footprint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "SECONDS", 0.001)
    found = probe.probe_machine([1, 2**20, 1], threads=1)
    assert found["gflops"] > 0
    assert len(found["gigabytes"]) == 3
    assert found["gigabytes"][0] == found["gigabytes"][2]
    assert min(found["gigabytes"]) > 0


def test_probe_reads_with_several_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "SECONDS", 0.001)
    assert min(probe.probe_machine([2**19], threads=3)["gigabytes"]) > 0


def test_peak_comes_from_a_process_of_its_own() -> None:
    peak = probe_peak([100, 2**20], threads=1)
    assert peak.threads == 1
    assert list(peak.gigabytes) == [100, 2**20]
    assert min(peak.gflops, *peak.gigabytes.values()) > 0


def test_turns_without_an_artefact(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N, 2] x) => (float[N, 2] y) '
        "{ y = Relu (x) }"
    )
    onnx.save(model, tmp_path / "m.onnx")
    models = {"a": tmp_path / "m.onnx", "b": tmp_path / "m.onnx"}
    turns = time_artefacts(
        {}, models, {"x": np.ones((3, 2), np.float32)}, rounds=4, round_seconds=0
    )
    assert list(turns) == ["a", "b"]
    assert [len(values) for values in turns.values()] == [4, 4]
    assert min(turns["a"] + turns["b"]) > 0
