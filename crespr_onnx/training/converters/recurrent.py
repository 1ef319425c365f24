"""LSTM, GRU and RNN with weights that stay in ONNX's order.

ONNX and PyTorch order the gates of a layer differently. The weights are reordered at each call, so
that what is trained is the initializer itself, and nothing has to be restored afterwards.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from crespr_onnx.training.converters.node import CannotConvertError, Converted, Node, apply

Run = Callable[[Tensor, list[Tensor], list[Tensor]], tuple[Tensor, ...]]
"""Runs one direction: (inputs [T, N, I], states [1, N, H], weights) -> (outputs, last states)."""


@dataclass(frozen=True)
class _Kind:
    """What an operator is in PyTorch.

    Attributes:
        gates: blocks of ONNX's weights in the order of PyTorch's.
        states: how many states it carries.
        activations: the only ones that PyTorch computes.
    """

    gates: tuple[int, ...]
    states: int
    activations: tuple[tuple[str, ...], ...]


_KINDS: Mapping[str, _Kind] = {
    # ONNX: input, output, forget, cell. PyTorch: input, forget, cell, output.
    "LSTM": _Kind((0, 2, 3, 1), 2, (("sigmoid", "tanh", "tanh"),)),
    # ONNX: update, reset, hidden. PyTorch: reset, update, new.
    "GRU": _Kind((1, 0, 2), 1, (("sigmoid", "tanh"),)),
    "RNN": _Kind((0,), 1, (("tanh",), ("relu",))),
}


def _reorder(rows: Tensor, gates: tuple[int, ...]) -> Tensor:
    """Reorders the blocks along the first axis."""
    return torch.cat([rows.chunk(len(gates))[gate] for gate in gates])


def _lstm(x: Tensor, states: list[Tensor], weights: list[Tensor]) -> tuple[Tensor, ...]:
    return torch.lstm(x, states, weights, True, 1, 0.0, False, False, False)


def _gru(x: Tensor, states: list[Tensor], weights: list[Tensor]) -> tuple[Tensor, ...]:
    return torch.gru(x, states[0], weights, True, 1, 0.0, False, False, False)


def _rnn_tanh(x: Tensor, states: list[Tensor], weights: list[Tensor]) -> tuple[Tensor, ...]:
    return torch.rnn_tanh(x, states[0], weights, True, 1, 0.0, False, False, False)


def _rnn_relu(x: Tensor, states: list[Tensor], weights: list[Tensor]) -> tuple[Tensor, ...]:
    return torch.rnn_relu(x, states[0], weights, True, 1, 0.0, False, False, False)


def _gru_reset_first(x: Tensor, states: list[Tensor], weights: list[Tensor]) -> tuple[Tensor, ...]:
    """A GRU whose reset gate acts before the hidden weights do, which PyTorch does not have."""
    w, r, w_bias, r_bias = weights
    hidden = states[0][0]
    size = hidden.shape[-1]
    inputs = x @ w.T + w_bias
    outputs = []
    for step in inputs:
        gates = step[:, : 2 * size] + hidden @ r[: 2 * size].T + r_bias[: 2 * size]
        reset, update = gates.sigmoid().chunk(2, dim=1)
        new = step[:, 2 * size :] + (reset * hidden) @ r[2 * size :].T + r_bias[2 * size :]
        hidden = (1 - update) * new.tanh() + update * hidden
        outputs.append(hidden)
    return torch.stack(outputs), hidden[None]


def _recurrent(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    bias: Tensor | None = None,
    lengths: None = None,
    h: Tensor | None = None,
    c: Tensor | None = None,
    *,
    run: Run,
    gates: tuple[int, ...],
    states: int,
    direction: str,
    batch_first: bool,
) -> tuple[Tensor, ...]:
    """Runs a layer; w, r and bias have one slice for each direction on their first axis.

    Returns:
        Y of shape [T, directions, N, H], and the last states, each of [directions, N, H]; with
        batch_first, N comes first.
    """
    if batch_first:
        x = x.transpose(0, 1)
    results = []
    for i in range(w.shape[0]):
        backwards = direction == "reverse" or i == 1
        starts = []
        for state in (h, c)[:states]:
            if state is None:
                starts.append(x.new_zeros(1, x.shape[1], r.shape[2]))
            else:
                starts.append((state.transpose(0, 1) if batch_first else state)[i : i + 1])
        both = x.new_zeros(2 * r.shape[1]) if bias is None else bias[i]
        weights = [_reorder(part, gates) for part in (w[i], r[i], *both.chunk(2))]
        y, *last = run(x.flip(0) if backwards else x, starts, weights)
        results.append((y.flip(0) if backwards else y, *(state[0] for state in last)))
    y, *last = (torch.stack(parts) for parts in zip(*results, strict=True))
    if batch_first:
        return y.permute(2, 1, 0, 3), *(state.transpose(0, 1) for state in last)
    return y.transpose(0, 1), *last


def recurrent(node: Node) -> Converted:
    """LSTM, GRU and RNN of one or two directions.

    Raises:
        CannotConvertError: for peepholes, clipping, coupled gates, lengths that differ within a
            batch, or activations besides PyTorch's.
    """
    kind = _KINDS[node.op]
    if node.has(7):
        raise CannotConvertError("its peepholes have no PyTorch counterpart")
    if node.get("clip"):
        raise CannotConvertError("its clip has no PyTorch counterpart")
    if node.get("input_forget", 0):
        raise CannotConvertError("its input_forget=1 has no PyTorch counterpart")
    _require_full_lengths(node)
    direction = node.get("direction", "forward")
    activations = _activations(node, kind, 2 if direction == "bidirectional" else 1)
    runs: Mapping[str, Run] = {
        "LSTM": _lstm,
        "GRU": _gru if node.get("linear_before_reset", 0) else _gru_reset_first,
        "RNN": _rnn_relu if activations == ("relu",) else _rnn_tanh,
    }
    return apply(
        node,
        _recurrent,
        given={4: None},
        run=runs[node.op],
        gates=kind.gates,
        states=kind.states,
        direction=direction,
        batch_first=bool(node.get("layout", 0)),
    )


def _require_full_lengths(node: Node) -> None:
    if not node.has(4):
        return
    lengths = node.constant(4)
    shape = node.shape(0)
    steps = shape[1 if node.get("layout", 0) else 0] if shape else None
    if lengths is None or steps is None or bool((lengths != steps).any()):
        raise CannotConvertError("its sequence_lens may be shorter than the input")


def _activations(node: Node, kind: _Kind, directions: int) -> tuple[str, ...]:
    given = [name.lower() for name in node.get("activations") or ()]
    for known in kind.activations:
        if given in ([], list(known) * directions):
            return known
    raise CannotConvertError(f"its activations {node.get('activations')} are not supported")
