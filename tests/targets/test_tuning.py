"""Tuning of real kernels on this machine, with few candidates."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from nets import Net

from crespr_onnx.targets import find_target
from crespr_onnx.targets.check import run_artefact
from crespr_onnx.targets.compile import compile_model
from crespr_onnx.targets.tuning.request import Tuning
from crespr_onnx.targets.tuning.search import search
from crespr_onnx.tuning_record import OWN_SCHEDULE

CPU = find_target("cpu")


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    """One convolution with what is fused behind it, and its input."""
    net = Net()
    weight, bias = net.weight(12, 8, 3, 3), net.weight(12)
    net.node("Relu", net.node("Conv", net.input(1, 8, 12, 12), weight, bias, pads=[1, 1, 1, 1]))
    return net.save(tmp_path_factory.mktemp("net")), net.inputs


@pytest.fixture(scope="module")
def records(net: tuple[Path, dict[str, np.ndarray]]) -> Path:
    """What tuning with three candidates found."""
    path = net[0].with_name("records.jsonl")
    said: list[tuple[float, str]] = []
    tuned = search(net[0], CPU, {}, 1, Tuning(3, path), lambda *word: said.append(word))
    (kernel,) = tuned.kernels
    assert kernel.name.startswith("conv2d 12x8x3x3 on 1x8x12x12 (")
    assert kernel.share == 1.0
    assert (kernel.trials, tuned.measured) == (3, 3)
    assert min(kernel.before_us, kernel.after_us) > 0
    assert tuned.changes == (kernel.winner != OWN_SCHEDULE)
    assert tuned.ratio is None
    assert all(0 <= done <= 1 for done, _ in said)
    return path


def test_with_records_nothing_is_measured(net, records):
    before = records.read_bytes()
    tuned = search(net[0], CPU, {}, 1, Tuning(2, records), lambda *_: None)
    assert tuned.measured == 0
    assert [kernel.trials for kernel in tuned.kernels] == [3]
    assert records.read_bytes() == before


def forced(records: Path, folder: Path, **changes: object) -> Path:
    """Records as if another tile had been the fastest."""
    document = json.loads(records.read_text().splitlines()[0])
    path = folder / "forced.jsonl"
    path.write_text(json.dumps(document | {"tile": [4, 1, 2], "ratio": 0.5} | changes) + "\n")
    return path


def test_what_is_on_record_is_compiled(net, records, tmp_path):
    model, inputs = net
    plain = compile_model(model, tmp_path / "plain", CPU)
    chosen = forced(records, tmp_path)
    tuned = compile_model(model, tmp_path / "tuned", CPU, records=chosen)
    first, then = ((a.folder / "model.so").read_bytes() for a in (plain, tuned))
    assert first != then
    (expected,) = onnxruntime.InferenceSession(model).run(None, inputs)
    (actual,) = run_artefact(tuned.folder, inputs).values()
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)
    again = compile_model(model, tmp_path / "again", CPU, records=chosen)
    assert (again.folder / "model.so").read_bytes() == then


def test_what_is_on_record_for_another_cpu_is_not(net, records, tmp_path):
    plain = compile_model(net[0], tmp_path / "plain", CPU)
    other = forced(records, tmp_path, target={"kind": "llvm", "mcpu": "penryn", "num-cores": 1})
    tuned = compile_model(net[0], tmp_path / "tuned", CPU, records=other)
    first, then = ((a.folder / "model.so").read_bytes() for a in (plain, tuned))
    assert first == then


def test_records_that_are_applied_without_measuring(net, records, tmp_path):
    chosen = forced(records, tmp_path)
    tuned = search(net[0], CPU, {}, 1, Tuning(0, chosen), lambda *_: None)
    (kernel,) = tuned.kernels
    assert (kernel.winner, kernel.share, kernel.before_us) == ("other tile", None, None)
    assert tuned.changes
    assert tuned.measured == 0
