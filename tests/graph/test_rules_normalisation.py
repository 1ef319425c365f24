"""Normalisation over each channel passes channels on; over several it keeps them as they are."""

import numpy as np
import pytest
from rule_helpers import A, analyse


def test_instance_normalization_binds_its_parameters():
    found = analyse("b = InstanceNormalization(a, s, t)", s=(4,), t=(4,))
    assert found.axis("b") == (1, A)
    assert (found.constant("s"), found.constant("t")) == ({0: A}, {0: A})


def test_layer_normalization_in_space():
    found = analyse("b = LayerNormalization<axis = -2>(a, s)", s=(6, 6))
    assert (found.axis("b"), found.found()) == ((1, A), [])


def test_lp_normalization_in_space():
    found = analyse("b = LpNormalization<axis = 3>(a)")
    assert (found.axis("b"), found.found()) == ((1, A), [])


TOGETHER = "it normalises over the channels"


@pytest.mark.parametrize(
    ("body", "more", "reason"),
    [
        ("b = LayerNormalization(a, s)", {"start": "tokens", "s": (4,)}, TOGETHER),
        ("b = LayerNormalization<axis = 1>(a, s)", {"s": (4, 6, 6)}, TOGETHER),
        ("b = LpNormalization<axis = 1>(a)", {}, TOGETHER),
        (
            "b = GroupNormalization<num_groups = 2>(a, s, s)",
            {"s": (4,), "opset": 21},
            "it normalises over groups of channels",
        ),
        (
            "b = InstanceNormalization(a, s, t)",
            {"inputs": "float[4] s", "t": (4,)},
            "its parameters are not constants",
        ),
        (
            "t = Transpose<perm = [0, 2, 1, 3]>(a) b = InstanceNormalization(t, s, s)",
            {"s": np.zeros(6, np.float32)},
            "the channels of its input are not on axis 1",
        ),
        (
            "b, m = LayerNormalization<axis = -2>(a, s)",
            {"s": (6, 6), "outputs": "float[N, C, H, W] m"},
            "its output 'm' is used",
        ),
    ],
)
def test_obstacles(body: str, more: dict[str, object], reason: str):
    found = analyse(body, **more)
    assert [why for _, why in found.found()] == [reason]
    assert None not in found.reasons("a")
