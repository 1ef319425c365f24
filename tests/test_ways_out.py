"""The ways out that error messages name are open: who follows the advice gets results."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pipeline_models import FIXED, HARDMAX, compress, normal, write_model

from crespr_onnx.errors import ModelError, UsageError

ANY_BATCH = FIXED.replace("[2, ", "[N, ")
DYNAMIC = """g (float[N, 1, H, W] x) => (float[N, 3] y) {
    c = Conv (x, w1)
    r = Relu (c)
    g = GlobalAveragePool (r)
    f = Flatten (g)
    y = MatMul (f, w2)
}"""
SETTINGS: dict[str, Any] = {"ratio": 0.5, "clusters": 1}


def layers(folder: Path, text: str) -> Path:
    arrays = {"w1": normal(0, 8, 16), "w2": normal(1, 16, 3)}
    return write_model(folder / "m.onnx", text, 18, **arrays)


def test_an_operator_that_cannot_be_trained(tmp_path: Path) -> None:
    model = layers(tmp_path, HARDMAX)
    with pytest.raises(ModelError, match="run with --epochs 0 and without --data"):
        compress(tmp_path, model=model, **SETTINGS)
    assert compress(tmp_path, model=model, data=None, epochs=0, **SETTINGS).exit_code == 0


def test_a_fixed_batch(tmp_path: Path) -> None:
    model = layers(tmp_path, FIXED)
    with pytest.raises(ModelError, match="export the model with a dynamic first axis"):
        compress(tmp_path, model=model, **SETTINGS)
    assert compress(tmp_path, model=layers(tmp_path, ANY_BATCH), **SETTINGS).exit_code == 0


def test_a_fixed_batch_needs_no_way_out_without_data(tmp_path: Path) -> None:
    model = layers(tmp_path, FIXED)
    assert compress(tmp_path, model=model, data=None, epochs=0, **SETTINGS).exit_code == 0


@pytest.mark.parametrize("target", ["onnx", pytest.param("cpu", marks=pytest.mark.slow)])
def test_dynamic_shapes(tmp_path: Path, target: str) -> None:
    arrays = {"w1": normal(0, 16, 1, 3, 3), "w2": normal(1, 16, 3)}
    model = write_model(tmp_path / "m.onnx", DYNAMIC, **arrays)
    settings = {"model": model, "data": None, "epochs": 0, "target": target, **SETTINGS}
    with pytest.raises(UsageError, match="--input-shape x:1x1xNxN, a number for each N"):
        compress(tmp_path, **settings)
    report = compress(tmp_path, **settings, input_shapes={"x": (1, 1, 6, 6)}, force=True)
    assert (report.exit_code, report.reasons) == (0, ())
    assert (tmp_path / "out" / "model.so").is_file() == (target == "cpu")


def test_dynamic_shapes_with_data(tmp_path: Path) -> None:
    arrays = {"w1": normal(0, 16, 1, 3, 3), "w2": normal(1, 16, 3)}
    model = write_model(tmp_path / "m.onnx", DYNAMIC, **arrays)
    np.savez(tmp_path / "d.npz", x=normal(2, 40, 1, 6, 6))
    report = compress(
        tmp_path, model=model, data=str(tmp_path / "d.npz"), input_shapes={"x": (1, 1, 6, 6)},
        **SETTINGS,
    )  # fmt: skip
    assert report.exit_code == 0
    assert report.metric is not None
    assert report.metric.samples == 4
