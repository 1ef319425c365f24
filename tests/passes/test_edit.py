"""New nodes and constants, in the form that the opset knows, under names that are free."""

import numpy as np
import onnx_ir as ir
import pytest
from pass_helpers import parse

from crespr_onnx.passes.edit import Editor


@pytest.fixture
def model() -> ir.Model:
    return ir.from_proto(
        parse("g (float[N, 4] x) => (float[N, 4] y) { y = Add(x, k) }", k=np.ones(4, np.float32))
    )


def old(model: ir.Model, opset: int) -> ir.Model:
    model.opset_imports[""] = opset
    return model


def test_names_that_are_taken_get_a_number(model: ir.Model):
    editor = Editor(model)
    assert [editor.fresh(n) for n in ("x", "k", "y", "add_0", "new", "new", "new")] == [
        "x_1", "k_1", "y_1", "add_0_1", "new", "new_1", "new_2",
    ]  # fmt: skip


def test_constants_are_registered(model: ir.Model):
    editor = Editor(model)
    value = editor.constant("k", [1, 2])
    assert value is model.graph.initializers["k_1"]
    assert value.const_value is not None
    assert (value.dtype, value.const_value.numpy().tolist()) == (ir.DataType.INT64, [1, 2])
    assert editor.constant("f", np.zeros(2, np.float32)).dtype == ir.DataType.FLOAT


def test_nodes_are_named_and_not_inserted(model: ir.Model):
    node = Editor(model).node("Relu", [model.graph.inputs[0]], "add_0", metadata={"a": "b"})
    assert (node.name, node.outputs[0].name) == ("add_0_1", "add_0_1/out")
    assert node.metadata_props == {"a": "b"}
    assert node.graph is None
    assert len(model.graph) == 1


def described(node: ir.Node) -> tuple[str, list[list[int]], dict[str, object], list[str]]:
    constants = [v.const_value.numpy().tolist() for v in node.inputs[1:] if v and v.const_value]
    attributes = {name: attr.value for name, attr in node.attributes.items()}
    return node.name or "", constants, attributes, [v.name or "" for v in node.outputs]


@pytest.mark.parametrize(
    ("opset", "constants", "attributes"),
    [
        (10, [[1], [3], [1]], {}),
        (9, [], {"starts": (1,), "ends": (3,), "axes": (1,)}),
    ],
)
def test_slice(model: ir.Model, opset: int, constants: object, attributes: object):
    editor = Editor(old(model, opset))
    node = editor.slice(model.graph.inputs[0], 1, 1, 3, "s")
    assert described(node) == ("s/Slice", constants, attributes, ["s/Slice/out"])


@pytest.mark.parametrize(
    ("opset", "constants", "attributes"),
    [(11, [[0, 1, 0, 2]], {}), (10, [], {"pads": (0, 1, 0, 2)})],
)
def test_pad(model: ir.Model, opset: int, constants: object, attributes: object):
    node = Editor(old(model, opset)).pad(model.graph.inputs[0], 2, 1, 1, 2, "p")
    assert described(node) == ("p/Pad", constants, attributes, ["p/Pad/out"])


@pytest.mark.parametrize(
    ("opset", "constants", "attributes"),
    [(13, [[1, 3]], {"axis": 1}), (12, [], {"axis": 1, "split": (1, 3)})],
)
def test_split(model: ir.Model, opset: int, constants: object, attributes: object):
    node = Editor(old(model, opset)).split(model.graph.inputs[0], 1, [1, 3], "p")
    outputs = ["p/Split/out_00", "p/Split/out_01"]
    assert described(node) == ("p/Split", constants, attributes, outputs)
