"""Selection of boxes."""

import math

import torch
from torch import Tensor, nn

from crespr_onnx.training.converters.node import Converted, Node
from crespr_onnx.training.converters.stock import stock


class NonMaxSuppression(nn.Module):
    """Puts right what onnx2torch leaves out: corners in any order, and no threshold of scores.

    Args:
        inner: the module of onnx2torch.
        by_corners: whether boxes are given by two corners, rather than center and size.
    """

    def __init__(self, inner: nn.Module, by_corners: bool) -> None:
        super().__init__()
        self.inner = inner
        self.by_corners = by_corners

    def forward(
        self,
        boxes: Tensor,
        scores: Tensor,
        limit: Tensor | None = None,
        overlap: Tensor | None = None,
        threshold: Tensor | None = None,
    ) -> Tensor:
        """Rows of batch, class and box, shape [selected, 3]."""
        if self.by_corners:
            first, second = boxes.chunk(2, dim=-1)
            boxes = torch.cat([torch.minimum(first, second), torch.maximum(first, second)], dim=-1)
        if threshold is None:
            threshold = torch.tensor(-math.inf)
        selected: Tensor = self.inner(boxes, scores, limit, overlap, threshold)
        return selected


def non_max_suppression(node: Node) -> Converted:
    """NonMaxSuppression."""
    converted = stock("NonMaxSuppression", 11)(node)
    by_corners = not node.get("center_point_box", 0)
    return Converted(NonMaxSuppression(converted.module, by_corners), node.inputs)
