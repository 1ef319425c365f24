"""Models fixed to one sample are trained in batches, and delivered as they were declared."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from pipeline_models import compress, normal, write_data, write_model

from crespr_onnx.errors import ModelError
from crespr_onnx.graph.session import make_session, run

SINGLE = """g (float[1, 8] x) => (float[1, 3] y) {
    h = Gemm (x, w1, b1)
    r = Reshape (h, cut)
    a = Relu (r)
    f = Reshape (a, flat)
    y = MatMul (f, w2)
}"""
MIXED = """g (float[1, 8] x) => (float[1, 3] y) {
    h = Gemm (x, w1, b1)
    a = Relu (h)
    scores = MatMul (a, w2)
    mean = ReduceSum (scores, zero)
    y = Sub (mean, scores)
}"""


def write(path: Path, text: str) -> Path:
    arrays = {
        "w1": normal(0, 8, 16), "b1": normal(1, 16), "w2": normal(2, 16, 3),
    }  # fmt: skip
    extra = {"zero": np.array([0])}
    if text == SINGLE:
        extra = {"cut": np.array([1, 16, 1]), "flat": np.array([1, 16])}
    return write_model(path, text, **arrays, **extra)


def test_trained_in_batches_and_delivered_for_one_sample(tmp_path: Path):
    model = write(tmp_path / "single.onnx", SINGLE)
    report = compress(tmp_path, model=model, epochs=3, clusters=1, eval_data=None)
    assert report.status == "ok"
    assert report.metric is not None
    assert report.metric.samples == 10  # a tenth of the data
    given, made = onnx.load(model), onnx.load(tmp_path / "out" / "model.onnx")
    assert list(made.graph.input) == list(given.graph.input)
    assert list(made.graph.output) == list(given.graph.output)
    sample = {"x": normal(9, 1, 8)}
    assert run(make_session(tmp_path / "out" / "model.onnx"), sample)["y"].shape == (1, 3)


def test_a_model_that_mixes_samples_is_refused(tmp_path: Path):
    model = write(tmp_path / "mixed.onnx", MIXED)
    data = write_data(tmp_path / "data.npz")
    with pytest.raises(ModelError, match="input 'x' takes batches of exactly 1; training and eval"):
        compress(tmp_path, model=model, clusters=1, data=data)
    assert not (tmp_path / "out").exists()
