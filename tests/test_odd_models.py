"""Models of unusual form go the whole way, and what comes out has the form that went in."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from pipeline_models import compress, normal

from crespr_onnx.errors import ModelError
from crespr_onnx.graph.load import load_model
from crespr_onnx.graph.session import run
from crespr_onnx.inspection import inspect_model
from crespr_onnx.stages.prepare import analyse_model

HEAD = '<ir_version: 8, opset_import: ["" : 17]> net (float[n,8] x) => (float[n,3] y)'
LAYERS = "h = MatMul(x, w1)  r = Relu(h)  m = MatMul(r, w2)  s = Relu(m)  y = MatMul(s, w3)"
FUNCTION = """
<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
net (float[n,8] x) => (float[n,3] y) {
  r = local.Layer(x, w1)
  s = local.Layer(r, w2)
  y = MatMul(s, w3)
}
<domain: "local", opset_import: ["" : 17, "local" : 1]>
Layer (a, w) => (b) { c = MatMul(a, w)  b = local.Act<slope = 0.1>(c) }
<domain: "local", opset_import: ["" : 17]>
Act <slope> (a) => (b) { b = LeakyRelu<alpha: float = @slope>(a) }
"""
BRANCH = f"""{HEAD} {{
  h = MatMul(x, w1)
  shape = Shape<start = 1>(h)
  sixteen = Constant<value = int64[1] {{16}}>()
  same = Equal(shape, sixteen)
  r = If(same)<
      then_branch = a () => (float[n,16] p) {{ p = Relu(h) }},
      else_branch = b () => (float[n,16] q) {{ q = Neg(h) }}>
  m = MatMul(r, w2)
  s = Relu(m)
  y = MatMul(s, w3)
}}"""


def model(text: str = f"{HEAD} {{ {LAYERS} }}") -> ModelProto:
    """Three layers of 8 x 16, 16 x 16 and 16 x 3 weights."""
    made = onnx.parser.parse_model(text)
    for seed, (name, shape) in enumerate({"w1": (8, 16), "w2": (16, 16), "w3": (16, 3)}.items()):
        array = normal(seed, *shape)
        made.graph.initializer.append(numpy_helper.from_array(array, name))
    return made


def function() -> ModelProto:
    return model(FUNCTION)


def branch() -> ModelProto:
    return model(BRANCH)


def spelled_out() -> ModelProto:
    made = model()
    made.opset_import[0].domain = "ai.onnx"
    for node in made.graph.node:
        node.domain = "ai.onnx"
    return made


def weights_in_constants() -> ModelProto:
    """As Paddle exports them."""
    made = model()
    nodes = [helper.make_node("Constant", [], [t.name], value=t) for t in made.graph.initializer]
    nodes += list(made.graph.node)
    made.graph.ClearField("initializer")
    made.graph.ClearField("node")
    made.graph.node.extend(nodes)
    return made


def weights_among_inputs() -> ModelProto:
    made = model()
    made.ir_version = 3
    for tensor in made.graph.initializer:
        value = helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, list(tensor.dims))
        made.graph.input.append(value)
    return made


def several_outputs() -> ModelProto:
    """Outputs that are an input, and two of one node."""
    made = model()
    halves = helper.make_tensor("halves", TensorProto.INT64, [2], [8, 8])
    made.graph.initializer.append(halves)
    made.graph.node.append(helper.make_node("Split", ["s", "halves"], ["left", "right"], axis=1))
    for name, shape in {"x": ["n", 8], "left": ["n", 8], "right": ["n", 8]}.items():
        value = helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        made.graph.output.append(value)
    return made


def constant_output() -> ModelProto:
    """An output that is an initializer, with no row per sample."""
    made = model()
    made.graph.initializer.append(numpy_helper.from_array(normal(3, 2), "marker"))
    made.graph.output.append(helper.make_tensor_value_info("marker", TensorProto.FLOAT, [2]))
    return made


def tied() -> ModelProto:
    """One weight in two layers."""
    text = "h = MatMul(x, w1)  r = Relu(h)  m = MatMul(r, w2)  s = Relu(m)  t = MatMul(s, w2) "
    return model(f"{HEAD} {{ {text} u = Relu(t)  y = MatMul(u, w3) }}")


def left_over() -> ModelProto:
    """What training leaves behind."""
    text = (
        "h = MatMul(x, w1)  d = Dropout(h)  i = Identity(d)  r = Relu(i)  m = MatMul(r, w2) "
        "s = Relu(m)  e, mask = Dropout(s)  y = MatMul(e, w3)"
    )
    return model(f"{HEAD} {{ {text} }}")


ODD = (
    function, branch, spelled_out, weights_in_constants, weights_among_inputs, several_outputs,
    tied, left_over,
)  # fmt: skip


def save(folder: Path, made: ModelProto) -> Path:
    path = folder / "odd.onnx"
    path.write_bytes(made.SerializeToString())
    return path


@pytest.mark.parametrize("make", [*ODD, constant_output])
def test_the_working_copy_computes_the_same(tmp_path: Path, make: Callable[[], ModelProto]) -> None:
    path = save(tmp_path, make())
    for batch in (1, 3):
        x = {"x": normal(9, batch, 8)}
        expected = run(path, x)
        for found in (run(load_model(path).model, x), run(analyse_model(path).model, x)):
            assert list(found) == list(expected)
            for name, array in expected.items():
                np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", [*ODD, constant_output])
def test_the_interface_is_delivered_unchanged(
    tmp_path: Path, make: Callable[[], ModelProto]
) -> None:
    path = save(tmp_path, make())
    report = compress(tmp_path, model=path, epochs=0, ratio=0.5, clusters=None)
    assert (report.status, report.reasons) == ("ok", ())
    before, after = load_model(path), load_model(tmp_path / "out" / "model.onnx")
    assert str(after.signature) == str(before.signature)
    assert after.model.opset_imports[""] == 17
    assert not after.model.functions
    expected = run(path, {"x": normal(9, 3, 8)})
    assert list(run(after.model, {"x": normal(9, 3, 8)})) == list(expected)


def stale_shapes() -> ModelProto:
    """Shapes recorded for one sample, in a model whose batch was freed by hand."""
    return model(f"""{HEAD} <float[1,16] h, float[1,16] r, float[1,2,8] c> {{
        h = MatMul(x, w1)  r = Relu(h)
        size = Shape(r)  zero = Constant<value = int64[1] {{0}}>()  n = Gather(size, zero)
        rest = Constant<value = int64[2] {{2, 8}}>()  t = Concat<axis = 0>(n, rest)
        c = Reshape(r, t)  e = Flatten(c)  m = MatMul(e, w2)  s = Relu(m)  y = MatMul(s, w3)
    }}""")


def test_recorded_shapes_are_not_believed_where_they_can_be_worked_out(tmp_path: Path) -> None:
    path = save(tmp_path, stale_shapes())
    report = compress(tmp_path, model=path, ratio=0.5, clusters=None)
    assert (report.status, report.reasons) == ("ok", ())
    assert inspect_model(path).obstacles == ()


def test_functions_and_branches_are_clustered_as_if_written_out(tmp_path: Path) -> None:
    plain = inspect_model(save(tmp_path, model()))
    assert plain.max_ratio > 0.9
    for make in (function, branch, spelled_out, weights_in_constants, weights_among_inputs):
        found = inspect_model(save(tmp_path, make()))
        assert (found.weights, found.max_ratio) == (plain.weights, plain.max_ratio)
        assert found.obstacles == ()


def test_what_training_leaves_behind_is_not_delivered(tmp_path: Path) -> None:
    path = save(tmp_path, left_over())
    compress(tmp_path, model=path, epochs=0, ratio=0.5, clusters=1)
    delivered = onnx.load(tmp_path / "out" / "model.onnx")
    assert [n.op_type for n in delivered.graph.node] == [
        "MatMul",
        "Relu",
        "MatMul",
        "Relu",
        "MatMul",
    ]


def test_a_branch_that_depends_on_the_input_is_refused(tmp_path: Path) -> None:
    made = branch()
    (shape,) = [node for node in made.graph.node if node.op_type == "Shape"]
    del shape.attribute[:]
    shape.attribute.append(helper.make_attribute("end", 1))
    (choice,) = [node for node in made.graph.node if node.op_type == "If"]
    choice.name = "choice"
    path = save(tmp_path, made)
    match = r"odd.onnx: If node 'choice' of opset 17 is control flow: its condition is computed"
    with pytest.raises(ModelError, match=match) as caught:
        inspect_model(path)
    assert caught.value.exit_code == 3


def test_a_function_of_another_opset_is_refused(tmp_path: Path) -> None:
    made = function()
    made.functions[0].opset_import[0].version = 13
    match = r"cannot be inlined \(Opset mismatch .*\); inline it with onnx.inliner"
    with pytest.raises(ModelError, match=match):
        load_model(save(tmp_path, made))


def test_outputs_without_a_row_per_sample_teach_nothing(tmp_path: Path) -> None:
    made = model()
    del made.graph.output[:]
    for name, op, attributes in (("best", "ArgMax", {"axis": 1}), ("total", "ReduceSum", {})):
        made.graph.node.append(helper.make_node(op, ["y"], [name], **attributes))
        kind = TensorProto.INT64 if op == "ArgMax" else TensorProto.FLOAT
        made.graph.output.append(helper.make_tensor_value_info(name, kind, ["a", "b"]))
    report = compress(tmp_path, model=save(tmp_path, made), ratio=0.5, clusters=1)
    assert report.exit_code == 3
    assert report.reasons == (
        "no output of the model has a row of floating-point numbers for each sample, so there is "
        "nothing to learn from; run with --epochs 0 and without --data",
    )
