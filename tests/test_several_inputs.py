"""A model of two inputs and two outputs goes the whole way."""

from pathlib import Path

import numpy as np
import onnx
from pipeline_models import compress, normal, write_model

from crespr_onnx.graph.session import run

NET = """g (float[N, 8] a, float[N, 3, 6, 6] b) => (float[N, 3] y, float[N, 16] f) {
    h = Gemm (a, w1) r = Relu (h)
    c = Conv (b, w2) s = Relu (c) p = GlobalAveragePool (s) q = Flatten (p)
    f = Concat<axis = 1> (r, q)
    m = Gemm (f, w3) n = Relu (m) y = MatMul (n, w4)
}"""


def test_two_inputs_and_two_outputs(tmp_path: Path) -> None:
    weights = {
        "w1": normal(0, 8, 8), "w2": normal(1, 8, 3, 3, 3), "w3": normal(2, 16, 32),
        "w4": normal(3, 32, 3),
    }  # fmt: skip
    model = write_model(tmp_path / "m.onnx", NET, **weights)
    inputs = {"a": normal(5, 80, 8), "b": normal(6, 80, 3, 6, 6)}
    np.savez(tmp_path / "d.npz", **inputs, labels=np.arange(80) % 3)
    report = compress(
        tmp_path, model=model, data=str(tmp_path / "d.npz"), epochs=3, clusters=None, ratio=0.5
    )
    assert (report.status, report.reasons) == ("ok", ())
    assert report.ratio is not None
    assert report.ratio.physical >= 0.5
    made = onnx.load(tmp_path / "out" / "model.onnx")
    given = onnx.load(model)
    assert list(made.graph.input) == list(given.graph.input)
    assert list(made.graph.output) == list(given.graph.output)
    batch = {name: array[:5] for name, array in inputs.items()}
    answers = run(tmp_path / "out" / "model.onnx", batch)
    assert {name: array.shape for name, array in answers.items()} == {"y": (5, 3), "f": (5, 16)}
