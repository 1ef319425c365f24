"""LSTM, GRU and RNN with weights that stay in ONNX's order.

ONNX and PyTorch order the gates of a layer differently. The weights are reordered at each call, so
that what is trained is the initializer itself, and nothing has to be restored afterwards.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from crespr_onnx.training.converters.node import CannotConvertError, Converted, Node, apply

Run = Callable[[Tensor, Tensor | None, list[Tensor], list[Tensor]], tuple[Tensor, ...]]
"""Runs one direction: (inputs [T, N, I], lengths [N] or None for all of T, states [1, N, H],
weights) -> (outputs [T, N, H], *last states)."""


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


def _layer(
    cell: Callable[..., tuple[Tensor, ...]],
    x: Tensor,
    lengths: Tensor | None,
    states: list[Tensor],
    weights: list[Tensor],
) -> tuple[Tensor, ...]:
    """A layer of PyTorch; `cell` is torch.lstm or one of its like."""
    rest = (weights, True, 1, 0.0, False, False)
    if lengths is None:
        return cell(x, states if len(states) > 1 else states[0], *rest, False)
    packed = pack_padded_sequence(x, lengths.cpu(), enforce_sorted=False)
    assert packed.sorted_indices is not None
    assert packed.unsorted_indices is not None
    starts = [state.index_select(1, packed.sorted_indices) for state in states]
    data, *last = cell(
        packed.data, packed.batch_sizes, starts if len(states) > 1 else starts[0], *rest
    )
    indices = (packed.sorted_indices, packed.unsorted_indices)
    y, _ = pad_packed_sequence(
        PackedSequence(data, packed.batch_sizes, *indices), total_length=len(x)
    )
    return y, *(state.index_select(1, packed.unsorted_indices) for state in last)


def _gru_reset_first(
    x: Tensor, lengths: Tensor | None, states: list[Tensor], weights: list[Tensor]
) -> tuple[Tensor, ...]:
    """A GRU whose reset gate acts before the hidden weights do, which PyTorch does not have."""
    w, r, w_bias, r_bias = weights
    hidden = states[0][0]
    size = hidden.shape[-1]
    inputs = x @ w.T + w_bias
    outputs = []
    for time, step in enumerate(inputs):
        gates = step[:, : 2 * size] + hidden @ r[: 2 * size].T + r_bias[: 2 * size]
        reset, update = gates.sigmoid().chunk(2, dim=1)
        new = step[:, 2 * size :] + (reset * hidden) @ r[2 * size :].T + r_bias[2 * size :]
        following = (1 - update) * new.tanh() + update * hidden
        if lengths is None:
            hidden = following
            outputs.append(hidden)
            continue
        is_inside = (time < lengths)[:, None]
        hidden = torch.where(is_inside, following, hidden)
        outputs.append(torch.where(is_inside, following, 0.0))
    return torch.stack(outputs), hidden[None]


def _reverse(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Reverses time, for each sample within its length."""
    if lengths is None:
        return x.flip(0)
    time = torch.arange(len(x), device=x.device)[:, None]
    index = torch.where(time < lengths, lengths - 1 - time, time)
    return x.gather(0, index[..., None].expand_as(x))


def _recurrent(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    bias: Tensor | None = None,
    lengths: Tensor | None = None,
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
    if lengths is not None:
        lengths = None if bool((lengths >= len(x)).all()) else lengths.long()
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
        y, *last = run(_reverse(x, lengths) if backwards else x, lengths, starts, weights)
        results.append((_reverse(y, lengths) if backwards else y, *(s[0] for s in last)))
    y, *last = (torch.stack(parts) for parts in zip(*results, strict=True))
    if batch_first:
        return y.permute(2, 1, 0, 3), *(state.transpose(0, 1) for state in last)
    return y.transpose(0, 1), *last


def recurrent(node: Node) -> Converted:
    """LSTM, GRU and RNN of one or two directions.

    Raises:
        CannotConvertError: for peepholes, clipping, coupled gates, or activations besides
            PyTorch's.
    """
    kind = _KINDS[node.op]
    if node.has(7):
        raise CannotConvertError("its peepholes have no PyTorch counterpart")
    if node.get("clip"):
        raise CannotConvertError("its clip has no PyTorch counterpart")
    if node.get("input_forget", 0):
        raise CannotConvertError("its input_forget=1 has no PyTorch counterpart")
    direction = node.get("direction", "forward")
    activations = _activations(node, kind, 2 if direction == "bidirectional" else 1)
    runs: Mapping[str, Run] = {
        "LSTM": partial(_layer, torch.lstm),
        "GRU": partial(_layer, torch.gru) if node.get("linear_before_reset") else _gru_reset_first,
        "RNN": partial(_layer, torch.rnn_relu if activations == ("relu",) else torch.rnn_tanh),
    }
    return apply(
        node,
        _recurrent,
        run=runs[node.op],
        gates=kind.gates,
        states=kind.states,
        direction=direction,
        batch_first=bool(node.get("layout", 0)),
    )


def _activations(node: Node, kind: _Kind, directions: int) -> tuple[str, ...]:
    given = [name.lower() for name in node.get("activations") or ()]
    for known in kind.activations:
        if given in ([], list(known) * directions):
            return known
    raise CannotConvertError(f"its activations {node.get('activations')} are not supported")
