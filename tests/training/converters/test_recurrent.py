"""LSTM, GRU and RNN, whose weights keep ONNX's order."""

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from converter_checks import check, node_model, normal, refusal, run_onnx
from hypothesis import given, settings
from hypothesis import strategies as st

from crespr_onnx.training.importer import import_model

STEPS, BATCH, INPUT, HIDDEN = 5, 3, 4, 6
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def layer(op: str, directions: int, bias: bool = True) -> list[np.ndarray | None]:
    """Input, W, R and bias."""
    rows = GATES[op] * HIDDEN
    return [
        normal(STEPS, BATCH, INPUT),
        0.5 * normal(directions, rows, INPUT, seed=1),
        0.5 * normal(directions, rows, HIDDEN, seed=2),
        0.5 * normal(directions, 2 * rows, seed=3) if bias else None,
    ]


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.data())
def test_recurrent(data: st.DataObject) -> None:
    op = data.draw(st.sampled_from(["LSTM", "GRU", "RNN"]))
    direction = data.draw(st.sampled_from(["forward", "reverse", "bidirectional"]))
    directions = 2 if direction == "bidirectional" else 1
    arrays = layer(op, directions, bias=data.draw(st.booleans()))
    lengths = data.draw(st.sampled_from([None, (5, 5, 5), (5, 2, 3), (4, 1, 4)]))
    arrays.append(None if lengths is None else np.array(lengths, np.int32))
    attributes: dict[str, Any] = {"hidden_size": HIDDEN, "direction": direction}
    for seed in (4, 5)[: 2 if op == "LSTM" else 1]:
        is_given = data.draw(st.booleans())
        arrays.append(normal(directions, BATCH, HIDDEN, seed=seed) if is_given else None)
    if op == "GRU":
        attributes["linear_before_reset"] = data.draw(st.integers(0, 1))
    if op == "RNN" and data.draw(st.booleans()):
        attributes["activations"] = ["Relu"] * directions
    opset = data.draw(st.sampled_from([7, 14, 22]))
    outputs = 3 if op == "LSTM" else 2
    check(op, *arrays, opset=opset, outputs=outputs, **attributes)


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_what_is_trained_is_the_initializer(op: str, direction: str) -> None:
    """`check` trains it, writes it back and runs it again."""
    arrays = layer(op, 2 if direction == "bidirectional" else 1)
    more = {"linear_before_reset": 1} if op == "GRU" else {}
    imported = check(op, *arrays, opset=17, hidden_size=HIDDEN, direction=direction, **more)
    assert sorted(imported.bindings) == ["in1", "in2", "in3"]
    for i in (1, 2, 3):
        assert imported.tensor(f"in{i}").shape == arrays[i].shape


def test_lengths_that_the_model_computes() -> None:
    arrays = [*layer("LSTM", 2), np.array([5, 2, 3], np.int32)]
    more = {"hidden_size": HIDDEN, "direction": "bidirectional"}
    check("LSTM", *arrays, opset=14, fed=(0, 4), outputs=3, **more)


@pytest.mark.parametrize("op", GATES)
def test_batch_first(op: str) -> None:
    """ONNX Runtime has no layout=1; it is the other layout with the axes exchanged."""
    names = 3 if op == "LSTM" else 2
    arrays = layer(op, 2)
    rest = {"hidden_size": HIDDEN, "direction": "bidirectional"}
    expected = run_onnx(node_model(op, arrays, 14, outputs=names, **rest), {"in0": arrays[0]})
    arrays[0] = arrays[0].transpose(1, 0, 2).copy()
    model = node_model(op, arrays, 14, outputs=names, layout=1, **rest)
    found = import_model(ir.from_proto(model)).module(torch.from_numpy(arrays[0]))
    y, *states = (tensor.detach().numpy() for tensor in found)
    np.testing.assert_allclose(y.transpose(1, 2, 0, 3), expected[0], rtol=1e-5, atol=1e-5)
    for state, other in zip(states, expected[1:], strict=True):
        np.testing.assert_allclose(state.transpose(1, 0, 2), other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("more", "attributes", "reason"),
    [
        ([None, None, None, normal(1, 3 * HIDDEN)], {}, "its peepholes have no PyTorch"),
        ([], {"clip": 1.0}, "its clip has no PyTorch counterpart"),
        ([], {"input_forget": 1}, "its input_forget=1 has no PyTorch counterpart"),
        ([], {"activations": ["Relu"] * 3}, "its activations ['Relu', 'Relu', 'Relu'] are not"),
    ],
)
def test_what_pytorch_does_not_compute_is_refused(
    more: list[Any], attributes: dict[str, Any], reason: str
) -> None:
    text = refusal("LSTM", *layer("LSTM", 1), *more, opset=14, hidden_size=HIDDEN, **attributes)
    assert text.startswith(reason)
