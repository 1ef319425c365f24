"""Sessions of ONNX Runtime and the errors that come out of them."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from crespr_onnx.errors import ModelError
from crespr_onnx.graph.session import make_session, run

NET = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[n,2] x) => (float[n,2] doubled, float[n,1] total)
<float two = {2}>
{ doubled = Mul(x, two)
  total = ReduceSum <keepdims = 1, noop_with_empty_axes = 0> (x, axes)
  axes = Constant <value = int64[1] {1}> () }
"""


def net() -> onnx.ModelProto:
    model = onnx.parser.parse_model(NET)
    model.graph.node.insert(0, model.graph.node.pop())
    return model


X = {"x": np.array([[1, 2], [3, 4]], dtype=np.float32)}


def test_runs_a_file_a_proto_an_ir_model_and_a_session(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(net(), path)
    for model in (path, net(), ir.from_proto(net()), make_session(net(), threads=2)):
        outputs = run(model, X)
        assert list(outputs) == ["doubled", "total"]
        np.testing.assert_array_equal(outputs["doubled"], [[2, 4], [6, 8]])
        np.testing.assert_array_equal(outputs["total"], [[3], [7]])


def test_a_model_that_cannot_be_loaded(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"net\.onnx: ONNX Runtime cannot load the model: .*pars"):
        make_session(path)
    model = net()
    model.graph.node[1].domain = "com.example"
    with pytest.raises(ModelError, match=r"^ONNX Runtime cannot load the model: .*com\.example"):
        make_session(model)
    assert capfd.readouterr() == ("", "")


def test_inputs_that_do_not_fit(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ModelError, match=r"on inputs x \[2, 3\]: Got invalid dimensions"):
        run(net(), {"x": np.zeros((2, 3), np.float32)})
    with pytest.raises(ModelError, match=r"on inputs z \[2, 2\]: .*'x'"):
        run(net(), {"z": X["x"]})
    assert capfd.readouterr() == ("", "")
