"""Selection of boxes."""

import numpy as np
import pytest
from converter_checks import check

SCORES = np.array([[[0.9, 0.75, -0.6, 0.95, 0.5, 0.3]]], np.float32)
CORNERS = [[0, 0, 1, 1], [0, 0.1, 1, 1.1], [0, -0.1, 1, 0.9], [0, 10, 1, 11], [0, 10.1, 1, 11.1]]


@pytest.mark.parametrize("opset", [10, 11])
@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("given", [1, 2, 3])
def test_boxes_by_corners(opset: int, flipped: bool, given: int) -> None:
    boxes = np.array([[*CORNERS, [0, 100, 1, 101]]], np.float32)
    if flipped:
        boxes[0, ::2] = boxes[0, ::2][:, [2, 3, 0, 1]]
        boxes[0, 1] = boxes[0, 1][[2, 1, 0, 3]]
    more = [np.array([3]), np.array([0.5], np.float32), np.array([0.4], np.float32)][:given]
    check("NonMaxSuppression", boxes, SCORES, *more, opset=opset, fed=(0, 1))


def test_boxes_by_center() -> None:
    boxes = np.array([[[0.5, 0.5, 1, 1], [0.5, 0.6, 1, 1], [0.5, 10.5, 1, 1]]], np.float32)
    more = [np.array([3]), np.array([0.5], np.float32)]
    check(
        "NonMaxSuppression", boxes, SCORES[..., :3], *more, opset=11, fed=(0, 1),
        center_point_box=1,
    )  # fmt: skip
