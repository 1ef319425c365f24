"""Matrix products besides MatMul."""

import torch
from torch import Tensor

from crespr_onnx.training.converters.node import Converted, Node, apply
from crespr_onnx.training.converters.stock import stock


def _gemm(
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    *,
    alpha: float,
    beta: float,
    transposes: tuple[bool, bool],
) -> Tensor:
    left, right = (x.T if t else x for x, t in zip((a, b), transposes, strict=True))
    product = left @ right
    scaled = product if alpha == 1 else product * alpha
    if c is None:
        return scaled
    return scaled + (c if beta == 1 else c * beta)


def gemm(node: Node) -> Converted:
    """Gemm: a PyTorch layer where weight and bias are constant, else a function."""
    transposes = (bool(node.get("transA", 0)), bool(node.get("transB", 0)))
    weight, bias = node.shape(1), node.shape(2) if node.has(2) else None
    is_linear = (
        not transposes[0]
        and node.is_initializer(1)
        and weight is not None
        and (
            not node.has(2)
            or (node.is_initializer(2) and bias == (weight[0 if transposes[1] else 1],))
        )
    )
    if is_linear:
        return stock("Gemm", 13)(node)
    return apply(
        node,
        _gemm,
        alpha=node.get("alpha", 1.0),
        beta=node.get("beta", 1.0),
        transposes=transposes,
    )


def _einsum(*operands: Tensor, equation: str) -> Tensor:
    return torch.einsum(equation, *operands)


def einsum(node: Node) -> Converted:
    """Einsum."""
    return apply(node, _einsum, equation=node.get("equation"))
