"""Modules of whole graphs: their inputs, outputs, names and weights."""

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from training_models import array, lesson_for, normal, parse

from crespr_onnx.errors import ModelError
from crespr_onnx.graph.session import run
from crespr_onnx.passes.fold_constants import FoldConstants
from crespr_onnx.training.finetune import FineTuning, fine_tune
from crespr_onnx.training.importer import ImportedModel, import_model

torch.set_num_threads(1)


def assert_same(model: ir.Model, imported: ImportedModel, *inputs: np.ndarray) -> None:
    """The module, in inference, and ONNX Runtime give the same outputs."""
    names = [value.name or "" for value in model.graph.inputs]
    expected = run(model, dict(zip(names, inputs, strict=True)))
    with torch.no_grad():
        found = imported.module.eval()(*[torch.from_numpy(x) for x in inputs])
    tensors = found if isinstance(found, list) else [found]
    assert len(tensors) == len(expected)
    for tensor, wanted in zip(tensors, expected.values(), strict=True):
        np.testing.assert_allclose(tensor.numpy(), wanted, rtol=1e-5, atol=1e-5)


def train_and_write_back(model: ir.Model, imported: ImportedModel, *inputs: np.ndarray) -> None:
    optimizer = torch.optim.SGD(imported.module.parameters(), lr=0.01)
    for _ in range(2):
        optimizer.zero_grad()
        found = imported.module(*[torch.from_numpy(x) for x in inputs])
        tensors = found if isinstance(found, list) else [found]
        sum(t.square().mean() for t in tensors if t.requires_grad).backward()
        optimizer.step()
    imported.write_back(model)


OUTPUTS = {
    "an input": "y = MatMul (x, w)  z = Identity (x)",
    "several of one node": "h = MatMul (x, w)  y, z = Split <axis = 1> (h, sizes)",
    "one of several of one node": "h = MatMul (x, w)  y, rest = Split <axis = 1> (h, sizes)  "
    "z = Relu (h)",
    "one that others read": "y = MatMul (x, w)  z = Relu (y)",
    "in another order": "z = MatMul (x, w)  y = Relu (z)",
}


@pytest.mark.parametrize("what", OUTPUTS)
def test_outputs(what: str) -> None:
    text = f"g (float[N, 4] x) => (float[N, A] y, float[N, B] z) {{ {OUTPUTS[what]} }}"
    arrays = {"w": normal(0, 4, 4)} | ({"sizes": np.array([1, 3])} if "sizes" in text else {})
    model = parse(text, **arrays)
    imported = import_model(model)
    assert_same(model, imported, normal(1, 5, 4))
    train_and_write_back(model, imported, normal(1, 5, 4))
    assert_same(model, imported, normal(1, 5, 4))


def test_an_output_that_is_an_input_itself() -> None:
    model = parse("g (float[N, 4] x) => (float[N, 4] y) { y = MatMul (x, w) }", w=normal(0, 4, 4))
    model.graph.outputs.append(model.graph.inputs[0])
    found = import_model(model).module(torch.ones(2, 4))
    assert torch.equal(found[1], torch.ones(2, 4))


def test_inputs_in_order() -> None:
    text = "g (float[N, 2] a, float[N, 2] b) => (float[N, 2] y) { h = Sub (a, b) y = Add (h, w) }"
    model = parse(text, w=normal(0, 2))
    assert_same(model, import_model(model), normal(1, 3, 2), normal(2, 3, 2))


def test_the_long_spelling_of_the_domain() -> None:
    text = "g (float[N, 4] x) => (float[N, 4] y) { y = MatMul (x, w) }"
    proto = ir.to_proto(parse(text, w=normal(0, 4, 4)))
    proto.opset_import[0].domain = proto.graph.node[0].domain = "ai.onnx"
    imported = import_model(ir.from_proto(proto))
    assert list(imported.bindings) == ["w"]


def test_another_domain_is_refused() -> None:
    proto = ir.to_proto(parse("g (float[N] x) => (float[N] y) { [odd] y = Relu (x) }"))
    proto.opset_import.append(onnx.helper.make_opsetid("com.odd", 1))
    proto.graph.node[0].domain = "com.odd"
    message = (
        r"^node 'odd' \(Relu, opset 17\) .*: operators of the domain 'com.odd' have no PyTorch"
    )
    with pytest.raises(ModelError, match=message):
        import_model(ir.from_proto(proto))


@pytest.mark.parametrize("name", ["forward", "initializers", "a.b", "train", "double"])
def test_node_names_that_mean_something_to_modules(name: str) -> None:
    text = f'g (float[N, 4] x) => (float[N, 4] y) {{ ["{name}"] h = MatMul (x, w) y = Relu (h) }}'
    model = parse(text, w=normal(0, 4, 4))
    imported = import_model(model)
    assert_same(model, imported, normal(1, 2, 4))
    assert imported.module.get_submodule(imported.modules[name])


def test_names_that_differ_by_a_dot_only() -> None:
    text = """g (float[N, 4] x) => (float[N, 4] y) {
        ["a.b"] h = MatMul (x, w)
        ["a/b"] i = Relu (h)
        ["a/b_1"] y = Neg (i)
    }"""
    imported = import_model(parse(text, w=normal(0, 4, 4)))
    assert len(set(imported.modules.values())) == 3


def test_weights_in_constant_nodes_are_trained_once_they_are_lifted() -> None:
    text = "g (float[N, 2] x) => (float[N, 2] y) { c = Constant <value = float[2] {1, 2}> () "
    model = parse(text + "y = Mul (x, c) }")
    FoldConstants()(model)
    imported = import_model(model)
    assert list(imported.bindings) == ["c"]
    train_and_write_back(model, imported, normal(0, 3, 2))
    assert (array(model, "c") != [1, 2]).all()


NO_WEIGHTS: dict[str, tuple[str, dict[str, Any]]] = {
    "a scalar": ("y = Mul (x, c)", {"c": np.array(2, np.float32)}),
    "one element": ("y = Mul (x, c)", {"c": np.array([[2]], np.float32)}),
    "whole numbers": ("y = Gather <axis = 1> (x, c)", {"c": np.array([1, 0])}),
    "a mask": ("y = Add (x, c)", {"c": np.array([0, -np.inf], np.float32)}),
}


@pytest.mark.parametrize("what", NO_WEIGHTS)
def test_what_is_no_weight(what: str) -> None:
    node, arrays = NO_WEIGHTS[what]
    model = parse(f"g (float[N, 2] x) => (float[N, 2] y) {{ {node} }}", **arrays)
    imported = import_model(model)
    assert imported.bindings == {}
    assert_same(model, imported, normal(0, 3, 2))


def test_a_padded_conv_is_written_back() -> None:
    """Padding of one side only once hid the weights from the importer."""
    text = """g (float[N, 1, 4, 4] x) => (float[N, 2, 4, 4] y) {
        y = Conv <pads = [0, 0, 1, 1]> (x, w, b)
    }"""
    model = parse(text, w=normal(0, 2, 1, 2, 2), b=normal(1, 2))
    imported, x = import_model(model), normal(2, 3, 1, 4, 4)
    assert sorted(imported.bindings) == ["b", "w"]
    train_and_write_back(model, imported, x)
    assert_same(model, imported, x)
    assert (array(model, "w") != normal(0, 2, 1, 2, 2)).all()


def test_every_batch_size_and_image_size() -> None:
    text = """g (float[N, 2, H, W] x) => (float[A, B, C] y, float[D, 2, E, F] z) {
        c = Conv <auto_pad = "SAME_UPPER", strides = [2, 2]> (x, w)
        p = MaxPool <kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1> (c)
        u = Resize <mode = "linear"> (p, , scales)
        m = ReduceMean (u, axes)
        t = Transpose <perm = [2, 0, 1]> (m)
        y = LSTM <hidden_size = 3> (t, wi, wr, wb)
        z = Pad <mode = "edge"> (u, pads)
    }"""
    arrays = {
        "w": normal(0, 2, 2, 3, 3), "scales": np.array([1, 1, 2, 2], np.float32),
        "axes": np.array([2]), "wi": normal(1, 1, 12, 2), "wr": normal(2, 1, 12, 3),
        "wb": normal(3, 1, 24), "pads": np.array([0, 0, 1, 0, 0, 0, 0, 2]),
    }  # fmt: skip
    text = text.replace("float[A, B, C] y", "float[A, 1, B, C] y")
    text = text.replace("m = ReduceMean (u, axes)", "m = ReduceMean <keepdims = 0> (u, axes)")
    model = parse(text, 18, **arrays)
    imported = import_model(model)
    assert sorted(imported.bindings) == ["w", "wb", "wi", "wr"]
    for batch, height, width in ((1, 9, 8), (2, 16, 7), (5, 5, 11)):
        assert_same(model, imported, normal(4, batch, 2, height, width))
    train_and_write_back(model, imported, normal(5, 2, 2, 9, 9))
    assert_same(model, imported, normal(6, 3, 2, 8, 8))


def test_bfloat16_weights_are_written_back() -> None:
    value = onnx.helper.make_tensor("w", onnx.TensorProto.BFLOAT16, [2], [1.5, -2.0])
    proto = ir.to_proto(parse("g (bfloat16[N, 2] x) => (bfloat16[N, 2] y) { y = Add (x, x) }"))
    proto.graph.node[0].input[1] = "w"
    proto.graph.initializer.append(value)
    model = ir.from_proto(proto)
    imported = import_model(model)
    with torch.no_grad():
        imported.tensor("w").mul_(2)
    imported.write_back(model)
    np.testing.assert_array_equal(array(model, "w").astype(np.float32), [3, -4])
    assert model.graph.initializers["w"].const_value.dtype == ir.DataType.BFLOAT16


def test_convolutions_over_volumes_train() -> None:
    text = """g (float[N, 1, 2, 3, 3] x) => (float[N, 4] y) {
        c = Conv (x, w)
        y = Flatten (c)
    }"""
    model = parse(text, w=normal(0, 4, 1, 2, 3, 3))
    imported, x = import_model(model), normal(1, 8, 1, 2, 3, 3)
    before = imported.tensor("w").detach().clone()
    lesson = lesson_for(model, x, np.arange(8) % 4)
    fine_tune(imported.module, lesson, FineTuning(epochs=1, batch_size=4))
    assert not torch.equal(imported.tensor("w"), before)
