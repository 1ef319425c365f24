"""The batched form of a split dense layer, as the split emits it, recognised around its MatMul."""

from dataclasses import dataclass

import onnx_ir as ir

from crespr_onnx.passes.surgery import Array, constant, constant_ints, is_op, only_consumer


def cluster_swap(rank: int) -> list[int]:
    """The permutation [..., T, K, n] <-> [..., K, T, n] of a tensor with this many axes."""
    return [*range(rank - 3), rank - 2, rank - 3, rank - 1]


def kept_lead(rank: int) -> list[int]:
    """Target of a Reshape for all but the last of this many axes, which it leaves as they are."""
    return [-1] if rank == 2 else [0] * (rank - 1)


def swap_source(node: ir.Node | None) -> ir.Value | None:
    """The input of a Transpose of [..., T, K, n] to [..., K, T, n] or back, else None."""
    if node is None or not is_op(node, "Transpose"):
        return None
    perm = list(node.attributes.get_ints("perm", ()))
    return node.inputs[0] if len(perm) >= 3 and perm == cluster_swap(len(perm)) else None


@dataclass(frozen=True, eq=False)
class Blocks:
    """x [..., T, K n] taken apart to [..., K, T, n].

    Attributes:
        data: x.
        rank: number of its axes.
        clusters: K.
        width: n.
    """

    data: ir.Value
    rank: int
    clusters: int
    width: int


def match_blocks(node: ir.Node | None) -> Blocks | None:
    """What a Transpose yields that ends the way x -> Reshape -> Transpose, None for other nodes."""
    middle = swap_source(node)
    reshape = middle.producer() if middle is not None else None
    if reshape is None or not is_op(reshape, "Reshape") or reshape.inputs[0] is None:
        return None
    data, target = reshape.inputs[0], constant_ints(reshape.inputs[1])
    if node is None or target is None or len(target) != len(node.attributes.get_ints("perm", ())):
        return None
    *lead, clusters, width = target
    rank = len(lead) + 1
    if data.shape is not None and len(data.shape) != rank:
        return None
    if not keeps(lead) or clusters < 1 or width < 1:
        return None
    return Blocks(data, rank, clusters, width)


def keeps(lead: list[int]) -> bool:
    """Whether a Reshape to [*lead, ...] leaves the first axes as they are."""
    return set(lead) <= {0, -1} and lead.count(-1) <= 1


@dataclass(frozen=True, eq=False)
class BatchedMatMul:
    """x [N, K n] -> Reshape, Transpose -> [K, N, n] -> MatMul, Add -> [K, N, m] -> y [N, K m].

    Further axes in front of N stay where they are.

    Attributes:
        node: the MatMul.
        data: x.
        rank: number of its axes.
        weight: shape [K, n, m].
        bias: shape [K, 1, m], or None.
        bias_value: its initializer, or None.
        last: the Reshape that yields y.
    """

    node: ir.Node
    data: ir.Value
    rank: int
    weight: Array
    bias: Array | None
    bias_value: ir.Value | None
    last: ir.Node


def match_batched_matmul(node: ir.Node) -> BatchedMatMul | None:
    """The batched form of a matrix layer, if nothing else reads its inside; None for the rest."""
    weight = constant(node.inputs[1])
    if node.inputs[0] is None or weight is None or weight.ndim != 3:
        return None
    blocks = match_blocks(node.inputs[0].producer())
    consumer = only_consumer(node.outputs[0])
    clusters, n_in, n_out = weight.shape
    if blocks is None or (blocks.clusters, blocks.width) != (clusters, n_in):
        return None
    bias, bias_value = None, None
    if consumer is not None and is_op(consumer, "Add"):
        bias_value = next((v for v in consumer.inputs if v is not node.outputs[0]), None)
        bias = constant(bias_value)
        if bias is None or bias.shape != (clusters, 1, n_out):
            return None
        consumer = only_consumer(consumer.outputs[0])
    if consumer is None or swap_source(consumer) is None:
        return None
    last = only_consumer(consumer.outputs[0])
    if last is None or not is_op(last, "Reshape"):
        return None
    *lead, merged = constant_ints(last.inputs[1]) or [0]
    if len(lead) != blocks.rank - 1 or not keeps(lead) or merged != clusters * n_out:
        return None
    return BatchedMatMul(node, blocks.data, blocks.rank, weight, bias, bias_value, last)
