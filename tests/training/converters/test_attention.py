"""Attention of opset 23."""

from typing import Any

import numpy as np
import pytest
from converter_checks import Array, check, normal, refusal

HEADS, SIZE, STEPS = 2, 4, 5
MASKS = {
    "none": None,
    "added": normal(STEPS, STEPS, seed=5),
    "boolean": np.tril(np.ones((STEPS, STEPS), bool)),
}


def operands(heads: int, kv_heads: int, folded: bool) -> list[Array]:
    shapes = [(2, heads, STEPS, SIZE), *[(2, kv_heads, STEPS, SIZE)] * 2]
    arrays = [normal(*shape, seed=i) for i, shape in enumerate(shapes)]
    if folded:
        arrays = [
            np.ascontiguousarray(a.transpose(0, 2, 1, 3)).reshape(2, STEPS, -1) for a in arrays
        ]
    return arrays


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("mask", MASKS)
def test_attention(folded: bool, kv_heads: int, mask: str) -> None:
    given = [] if MASKS[mask] is None else [MASKS[mask]]
    counts = {"q_num_heads": 4, "kv_num_heads": kv_heads} if folded else {}
    for more in ({}, {"is_causal": 1}, {"scale": 0.3}, {"softcap": 2.0}):
        attributes: dict[str, Any] = {**counts, **more}
        arrays = [*operands(4, kv_heads, folded), *given]
        check("Attention", *arrays, opset=23, fed=(0, 1, 2), gradients=False, **attributes)


def test_a_cache_is_refused() -> None:
    past = normal(2, 2, 3, SIZE)
    reason = refusal("Attention", *operands(2, 2, False), None, past, past, opset=23)
    assert reason == "its cache or its output of scores has no PyTorch counterpart"


def test_a_sliding_window_is_refused() -> None:
    reason = refusal("Attention", *operands(2, 2, False), opset=25, left_window_size=2)
    assert reason == "its sliding window has no PyTorch counterpart"
