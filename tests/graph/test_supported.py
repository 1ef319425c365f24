"""Kinds of models that are refused, each with its reason."""

from collections.abc import Callable

import onnx
import pytest
from onnx import ModelProto, TensorProto, helper

from crespr_onnx.errors import ModelError
from crespr_onnx.graph.supported import check_supported

NET = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[batch,2] x) => (float[batch,2] y) <float[2,2] w = {1,2,3,4}>
{ h = MatMul(x, w)
  y = Relu(h) }
"""


def branch(model: ModelProto) -> None:
    body = helper.make_graph([helper.make_node("Identity", ["h"], ["z"])], "then", [], [])
    model.graph.node[1].CopyFrom(
        helper.make_node("If", ["x"], ["y"], name="choice", then_branch=body, else_branch=body)
    )


def rename_op(index: int, op: str) -> Callable[[ModelProto], None]:
    def change(model: ModelProto) -> None:
        model.graph.node[index].op_type = op

    return change


def set_opset(*versions: int) -> Callable[[ModelProto], None]:
    def change(model: ModelProto) -> None:
        del model.opset_import[:]
        model.opset_import.extend(helper.make_opsetid("", version) for version in versions)

    return change


def clear(field: str) -> Callable[[ModelProto], None]:
    return lambda model: model.graph.ClearField(field)


def repeat(field: str) -> Callable[[ModelProto], None]:
    def change(model: ModelProto) -> None:
        items = getattr(model.graph, field)
        items.append(items[0])

    return change


def output_twice(model: ModelProto) -> None:
    model.graph.node[1].output[0] = "h"


def define(model: ModelProto, name: str, *calls: str) -> None:
    nodes = [helper.make_node(call, ["a"], ["b"], domain="local") for call in calls]
    opset = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    model.functions.append(helper.make_function("local", name, ["a"], ["b"], nodes, opset))


def in_function(model: ModelProto) -> None:
    define(model, "Block", "QGemm")


def in_branch(model: ModelProto) -> None:
    branch(model)
    model.graph.node[1].attribute[0].g.node[0].op_type = "QGemm"


def circle(model: ModelProto) -> None:
    define(model, "Block", "Block")


def same_function(model: ModelProto) -> None:
    define(model, "Block", "Relu")
    define(model, "Block", "Relu")


def bomb(model: ModelProto) -> None:
    define(model, "F0", *["Relu"] * 10)
    for i in range(11):
        define(model, f"F{i + 1}", *[f"F{i}"] * 10)
    model.graph.node[1].op_type, model.graph.node[1].domain = "F11", "local"


def sparse(model: ModelProto) -> None:
    model.graph.sparse_initializer.append(onnx.SparseTensorProto(dims=[2, 2]))


def no_shape(field: str) -> Callable[[ModelProto], None]:
    return lambda model: getattr(model.graph, field)[0].type.tensor_type.ClearField("shape")


def only_weights(model: ModelProto) -> None:
    model.graph.input[0].name = "w"


def test_takes_a_plain_model() -> None:
    check_supported(onnx.parser.parse_model(NET))


def test_takes_branches_and_functions() -> None:
    model = onnx.parser.parse_model(NET)
    branch(model)
    define(model, "Block", "Relu")
    check_supported(model)


def test_nodes_of_other_domains_are_named_with_them() -> None:
    model = onnx.parser.parse_model(NET)
    model.graph.node[0].op_type, model.graph.node[0].domain = "QAttention", "com.microsoft"
    model.graph.node[0].name = "attend"
    title = r"node 'attend' \(com.microsoft.QAttention\) is quantised"
    with pytest.raises(ModelError, match=title):
        check_supported(model)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (clear("node"), "the model holds no operators; is it a whole, trained model"),
        (clear("input"), "the model has no inputs, so its outputs are constant"),
        (only_weights, "the model has no inputs"),
        (clear("output"), "the model has no outputs; export it with its outputs declared"),
        (set_opset(6), "opset 6 is older than 7, the oldest supported; convert"),
        (set_opset(999), f"opset 999 is newer than {onnx.defs.onnx_opset_version()}, the newest"),
        (set_opset(), "the model imports the ONNX operators 0 times"),
        (set_opset(17, 18), "the model imports the ONNX operators 2 times"),
        (rename_op(1, "Loop"), r"node 1 \(Loop of opset 17\) is control flow"),
        (rename_op(1, "Scan"), r"node 1 \(Scan of opset 17\) is control flow"),
        (
            rename_op(0, "QLinearConv"),
            r"node 0 \(QLinearConv of opset 17\) is quantised; give the",
        ),
        (rename_op(0, "QuantizeLinear"), r"node 0 \(QuantizeLinear of opset 17\) is quantised"),
        (rename_op(0, "DequantizeLinear"), r"node 0 \(DequantizeLinear of opset 17\) is quantised"),
        (rename_op(0, "MatMulInteger"), r"node 0 \(MatMulInteger of opset 17\) is quantised"),
        (rename_op(0, "ConvInteger"), r"node 0 \(ConvInteger of opset 17\) is quantised"),
        (rename_op(0, "MatMulNBits"), r"node 0 \(MatMulNBits of opset 17\) is quantised"),
        (in_branch, r"node 2 \(QGemm of opset 17\) is quantised"),
        (in_function, r"node 0 \(local.QGemm\) is quantised"),
        (circle, r"call each other in a circle \(Block -> Block\); export it again"),
        (bomb, "stand for 1000000000001 operators, more than 200000; export it without functions"),
        (same_function, "function 'Block' is defined more than once"),
        (sparse, "stores sparse initializers; store them dense"),
        (repeat("initializer"), "initializer 'w' is defined more than once"),
        (repeat("input"), "input 'x' is defined more than once"),
        (repeat("output"), "output 'y' is defined more than once"),
        (output_twice, "value 'h' is defined more than once; names must be unique"),
        (no_shape("input"), "'x' declares no shape; declare its rank, with names for the dynamic"),
        (no_shape("output"), "'y' declares no shape; declare its rank"),
    ],
)
def test_refuses(change: Callable[[ModelProto], None], match: str) -> None:
    model = onnx.parser.parse_model(NET)
    change(model)
    with pytest.raises(ModelError, match=match):
        check_supported(model)


def test_an_initializer_may_be_an_input_as_well() -> None:
    model = onnx.parser.parse_model(NET)
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [2, 2]))
    check_supported(model)
