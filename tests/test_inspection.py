"""What `inspect_model` finds in small models whose answers can be counted by hand."""

import gc
from pathlib import Path

import numpy as np
import onnx
import pytest

from crespr_onnx.errors import ModelError
from crespr_onnx.inspection import GroupInfo, LayerInfo, inspect_model
from crespr_onnx.stages.prepare import prepare_model
from crespr_onnx.training.allocate import max_clusters
from crespr_onnx.training.shrink import max_ratio

DIGITS = Path(__file__).resolve().parents[1] / "samples/digits/digits.onnx"


def save(path: Path, graph: str, **weights: tuple[int, ...]) -> Path:
    """A model from the text of its graph; weights are given by their shapes."""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {graph}')
    rng = np.random.default_rng(0)
    for name, shape in weights.items():
        array = rng.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    onnx.save(model, path)
    return path


def test_a_group_between_two_whole_sides_can_only_be_dropped(tmp_path: Path) -> None:
    path = save(
        tmp_path / "two.onnx",
        "g (float[N, 3, 8, 8] x) => (float[N, 4, 4, 4] y)"
        " {[first] a = Conv(x, v) [relu] b = Relu(a) [second] y = Conv(b, w)}",
        v=(8, 3, 3, 3),
        w=(4, 8, 3, 3),
    )
    found = inspect_model(path)
    assert (found.weights, found.macs) == (504, 216 * 36 + 288 * 16)
    assert (found.max_ratio, found.max_clusters) == (1 - (27 + 36) / 504, 1)
    assert found.operators == {"Conv": 2, "Relu": 1}
    assert (found.inputs, found.outputs) == (("x: float32[N,3,8,8]",), ("y: float32[N,4,4,4]",))
    assert found.layers == (
        LayerInfo("first", "Conv", 3, 8, 9, 216, 7776, "shrink", 1, "it has fewer than 4 inputs"),
        LayerInfo("second", "Conv", 8, 4, 9, 288, 4608, "shrink", 1, "'y' is a graph output"),
    )
    assert found.groups == (
        GroupInfo("a", 8, "drop", 1, "no layer that writes it can be split"),
        GroupInfo("y", 4, "keep", 1, "'y' is a graph output"),
        GroupInfo("v", 3, "keep", 1, "'x' is a graph input"),
    )
    assert found.obstacles == ()


def test_what_is_not_understood_keeps_its_neighbours(tmp_path: Path) -> None:
    path = save(
        tmp_path / "sum.onnx",
        "g (float[N, 8] x) => (float[N, 4] y)"
        " {[one] a = MatMul(x, u) [two] b = MatMul(a, v)"
        " [sum] c = CumSum(b, axis) [three] y = MatMul(c, w)}",
        u=(8, 6),
        v=(6, 5),
        w=(5, 4),
        axis=(),
    )
    model = onnx.load(path)
    model.graph.initializer[-1].CopyFrom(onnx.numpy_helper.from_array(np.array(1), "axis"))
    onnx.save(model, path)
    found = inspect_model(path)
    (obstacle,) = found.obstacles
    assert (obstacle.node, obstacle.op, obstacle.reason) == (
        "sum",
        "CumSum",
        "no rule for this operator",
    )
    reasons = {layer.name: (layer.verdict, layer.reason) for layer in found.layers}
    read = "read by CumSum 'sum': no rule for this operator"
    assert reasons == {
        "one": ("shrink", "it has too few channels for two clusters"),
        "two": ("shrink", read),
        "three": ("shrink", "'y' is a graph output"),
    }


def test_a_grouped_convolution_stays_dense(tmp_path: Path) -> None:
    path = save(
        tmp_path / "grouped.onnx",
        "g (float[N, 4, 4, 4] x) => (float[N, 4, 4, 4] y)"
        " {[a] a = Conv(x, u) [b] b = Conv <group = 2> (a, v) [c] y = Conv(b, w)}",
        u=(4, 4, 1, 1),
        v=(4, 2, 1, 1),
        w=(4, 4, 1, 1),
    )
    layer = inspect_model(path).layers[1]
    assert (layer.name, layer.verdict, layer.weights, layer.max_clusters) == ("b", "dense", 8, 1)
    assert layer.reason == "Conv 'b' is already grouped (group=2)"


def test_sizes_that_are_not_fixed_leave_macs_unknown(tmp_path: Path) -> None:
    path = save(
        tmp_path / "dynamic.onnx",
        "g (float[N, 3, H, W] x) => (float[N, 4, H, W] y) {a = Conv(x, v) y = Conv(a, w)}",
        v=(8, 3, 1, 1),
        w=(4, 8, 1, 1),
    )
    found = inspect_model(path)
    assert found.macs is None
    assert [layer.macs for layer in found.layers] == [None, None]


def test_a_model_without_weights(tmp_path: Path) -> None:
    path = save(tmp_path / "relu.onnx", "g (float[N, 3] x) => (float[N, 3] y) {y = Relu(x)}")
    found = inspect_model(path)
    assert (found.weights, found.macs, found.max_ratio, found.layers) == (0, 0, 0.0, ())


def test_digits_as_compress_sees_it() -> None:
    found = inspect_model(DIGITS)
    graph = prepare_model(DIGITS).graph
    assert (found.weights, found.bytes) == (89_632, DIGITS.stat().st_size)
    assert found.max_ratio == max_ratio(graph)
    assert found.max_clusters == max_clusters(graph) == 32
    assert [layer.max_clusters for layer in found.layers] == [1, 8, 8, 32, 1]
    assert [group.verdict for group in found.groups] == ["drop", *["cluster"] * 3, "keep", "keep"]
    assert [group.name for group in found.groups] == [group.name for group in graph.groups]


def test_the_dictionary_holds_plain_values() -> None:
    found = inspect_model(str(DIGITS)).to_dict()
    assert found["layers"][1]["verdict"] == "split"
    assert found["groups"][0]["channels"] == 32
    assert found["path"] == str(DIGITS)


def test_a_missing_file_is_a_model_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.onnx: no such file"):
        inspect_model(tmp_path / "none.onnx")


def test_garbage_collection_is_left_as_it_was(tmp_path: Path) -> None:
    inspect_model(DIGITS)
    assert gc.isenabled()
    with pytest.raises(ModelError):
        inspect_model(tmp_path / "none.onnx")
    assert gc.isenabled()
    gc.disable()
    try:
        inspect_model(DIGITS)
        assert not gc.isenabled()
    finally:
        gc.enable()
