"""What a contest is known by, and what takes part in it."""

import numpy as np
import onnx_ir as ir
from form_models import SHAPES, conv_net, folded, normal, split

from crespr_onnx.forms.contest import Contest

EACH = {
    form: dict.fromkeys(("one", "two", "three"), form) for form in ("grouped", "separate", "dense")
}


def key(model: ir.Model, arrangements: dict = EACH, shapes: dict = SHAPES) -> str:
    return Contest(model, arrangements, shapes).key


def other_reads(model: ir.Model) -> ir.Model:
    reads = np.array([1, 2, 3, 4], np.int32)
    model.graph.initializers["reads"].const_value = ir.tensor(reads, name="reads")
    return model


def test_weights_and_names_do_not_count():
    assert key(conv_net(0)) == key(conv_net(100))
    renamed = conv_net()
    for node in renamed.graph:
        node.name = f"other_{node.name}"
    assert key(renamed) == key(conv_net())
    assert key(other_reads(conv_net())) == key(conv_net())


def test_structure_shapes_and_forms_count():
    attribute, operator = conv_net(), conv_net()
    for node in operator.graph:
        if node.op_type == "Sigmoid":
            node.op_type = "Tanh"
    for node in attribute.graph:
        if node.name == "two":
            node.attributes["dilations"] = ir.AttrInt64s("dilations", [2, 2])
    keys = [
        key(conv_net()),
        key(operator),
        key(attribute),
        key(conv_net(), shapes={"x": (1, 4, 8, 8)}),
        key(conv_net(), {name: EACH[name] for name in ("grouped", "dense")}),
        key(conv_net(), {**EACH, "dense": {"one": "dense"}}),
    ]
    assert len(set(keys)) == len(keys)


def test_arrangements_that_come_out_alike_take_part_once():
    model = folded(
        """g (float[N, 5, 6] x) => (float[N, 5, 8] y) {
            a = Reshape(x, apart)
            b = Transpose<perm = [0, 2, 1, 3]>(a)
            p = MatMul(b, w)
            c = Transpose<perm = [0, 2, 1, 3]>(p)
            y = Reshape(c, join)
        }""",
        {"a": {"layer": "fc"}, "b": {"layer": "fc"}, "p": split("fc"), "c": {"layer": "fc"},
         "y": {"layer": "fc"}},
        apart=np.array([0, 0, 2, 3]), join=np.array([0, 0, 8]), w=normal(0, 2, 3, 4),
    )  # fmt: skip
    forms = {form: {"fc": form} for form in EACH}
    # With an axis in front, clusters have no form of their own.
    assert list(Contest(model, forms, {"x": (1, 5, 6)}).models()) == ["grouped", "dense"]
    inputs = Contest(model, forms, {"x": (1, 5, 6)}).inputs()
    assert {name: (a.shape, a.dtype) for name, a in inputs.items()} == {
        "x": ((1, 5, 6), np.float32)
    }
