"""Large initializers are kept apart from the message while a model is read, and nobody notices."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from crespr_onnx.errors import ModelError
from crespr_onnx.graph.load import load_model
from crespr_onnx.graph.session import run

SCRIPT = Path(__file__).resolve().parents[2] / "samples" / "benchmarks" / "large_model.py"
X = {"x": np.linspace(-1, 1, 16, dtype=np.float32).reshape(2, 8)}


def net() -> onnx.ModelProto:
    """Weights of 512, 64 and 256 bytes, and a shape that inference has to read."""
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        net (float[n,8] x) => (float[n,2,4] y, float[8,16] w) {
          h = MatMul(x, w)
          b = Add(h, bias)
          wide = Cast<to = 1>(half)
          z = MatMul(b, wide)
          y = Reshape(z, shape)
        }""")
    rng = np.random.default_rng(0)
    for name, array in (
        ("w", rng.standard_normal((8, 16)).astype(np.float32)),
        ("bias", rng.standard_normal(16).astype(np.float32)),
        ("half", rng.standard_normal((16, 8)).astype(np.float16)),
        ("shape", np.array([-1, 2, 4])),
    ):
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    return model


def saved(folder: Path, model: onnx.ModelProto, *, external: bool = False) -> Path:
    path = folder / "net.onnx"
    if external:
        onnx.save_model(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    else:
        onnx.save_model(model, path)
    return path


@pytest.mark.parametrize("external", [False, True])
def test_the_model_is_the_same(tmp_path: Path, external: bool) -> None:
    path = saved(tmp_path, net(), external=external)
    whole, apart = load_model(path), load_model(path, large=100)
    assert ir.to_proto(apart.model) == ir.to_proto(whole.model)
    assert apart.signature == whole.signature
    assert (apart.bytes, apart.sha256) == (whole.bytes, whole.sha256)
    assert list(apart.model.graph.initializers) == ["w", "bias", "half", "shape"]
    assert [value.name for value in apart.model.graph.inputs] == ["x"]
    for name, array in run(net(), X).items():
        np.testing.assert_array_equal(run(apart.model, X)[name], array)


def test_shapes_are_inferred_without_the_weights(tmp_path: Path) -> None:
    model = load_model(saved(tmp_path, net()), large=100).model
    shapes = [list(node.outputs[0].shape or ()) for node in model.graph]
    assert [shape[1:] for shape in shapes] == [[16], [16], [8], [8], [2, 4]]


def test_external_data_is_mapped_and_only_when_large(tmp_path: Path) -> None:
    model = load_model(saved(tmp_path, net(), external=True), large=100).model
    mapped = {
        name: isinstance(getattr(value.const_value.numpy(), "base", None), np.memmap)
        for name, value in model.graph.initializers.items()
        if value.const_value is not None
    }
    assert mapped["bias"] is False
    assert mapped["shape"] is False
    weight = model.graph.initializers["w"].const_value
    assert weight is not None
    assert not weight.numpy().flags.writeable


def test_weights_in_repeated_fields_and_among_the_inputs(tmp_path: Path) -> None:
    made = net()
    made.graph.initializer[0].CopyFrom(
        helper.make_tensor("w", TensorProto.FLOAT, [8, 16], np.arange(128.0))
    )
    made.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [8, 16]))
    loaded = load_model(saved(tmp_path, made), large=100)
    assert [spec.name for spec in loaded.signature.inputs] == ["x"]
    weight = loaded.model.graph.initializers["w"].const_value
    assert weight is not None
    np.testing.assert_array_equal(weight.numpy(), np.arange(128).reshape(8, 16))


def test_the_checker_still_sees_wrong_shapes(tmp_path: Path) -> None:
    made = net()
    wrong = np.zeros((9, 16), dtype=np.float32)
    made.graph.initializer[0].CopyFrom(numpy_helper.from_array(wrong, "w"))
    match = "the ONNX checker refuses it: .* Inferred shape and existing shape differ"
    with pytest.raises(ModelError, match=match):
        load_model(saved(tmp_path, made), large=100)
    del made.graph.output[1]
    with pytest.raises(ModelError, match=r"the ONNX checker refuses it: .*MatMul"):
        load_model(saved(tmp_path, made), large=100)


def test_data_with_several_hard_links_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, net(), external=True)
    os.link(tmp_path / "w.bin", tmp_path / "elsewhere.bin")
    with pytest.raises(
        ModelError, match=r"'w.bin' of tensor 'w' has several hard links, so it may"
    ):
        load_model(path)


def test_data_in_branches_and_functions_is_checked_as_well(tmp_path: Path) -> None:
    made = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17, "local" : 1]>
        net (float[n,2] x, bool c) => (float[n,2] y) {
          h = If(c)<then_branch = a () => (float[2] p) { p = Constant<value = float[2] {1, 2}>() },
                    else_branch = b () => (float[2] q) { q = Constant<value = float[2] {3, 4}>() }>
          y = local.Shift(x, h)
        }
        <domain: "local", opset_import: ["" : 17]>
        Shift (a, b) => (d) { one = Constant<value = float[2] {1, 1}>()  e = Add(a, one)
                              d = Add(e, b) }""")
    branch = made.graph.node[0].attribute[0].g.node[0].attribute[0].t
    inside = made.functions[0].node[0].attribute[0].t
    for tensor in (branch, inside):
        good = TensorProto.FromString(tensor.SerializeToString())
        tensor.CopyFrom(TensorProto(dims=[2], data_type=TensorProto.FLOAT))
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="../w.bin")
        path = tmp_path / "net.onnx"
        path.write_bytes(made.SerializeToString())
        with pytest.raises(ModelError, match="outside of the model's folder; keep the data"):
            load_model(path)
        tensor.CopyFrom(good)
    path.write_bytes(made.SerializeToString())
    load_model(path)


def test_weights_beyond_the_memory_of_the_machine_are_refused(tmp_path: Path) -> None:
    """A file full of holes takes no space, and its size is no reason to reserve any."""
    made = net()
    made.graph.initializer[0].CopyFrom(TensorProto(name="w", data_type=1, dims=[2**20, 2**20]))
    made.graph.initializer[0].data_location = TensorProto.EXTERNAL
    made.graph.initializer[0].external_data.add(key="location", value="w.bin")
    path = tmp_path / "net.onnx"
    path.write_bytes(made.SerializeToString())
    with (tmp_path / "w.bin").open("wb") as file:
        file.truncate(2**42)
    with pytest.raises(ModelError, match="at tensor 'w'; use a machine with more memory"):
        load_model(path)


@pytest.mark.slow
@pytest.mark.parametrize(("gib", "options"), [(1.3, []), (0.6, ["--embedded"])])
def test_memory_stays_below_three_times_the_weights(
    tmp_path: Path, gib: float, options: list[str]
) -> None:
    command = [sys.executable, str(SCRIPT), "--folder", str(tmp_path), "--gib", str(gib), *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    figures = json.loads(done.stdout)
    for step in ("load", "inspect", "write_back"):
        assert figures[step]["peak_over_weights"] < 3.0
