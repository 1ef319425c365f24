"""Normalisation layers."""

from typing import Any

import numpy as np
import pytest
from converter_checks import check, normal, refusal


def positive(*shape: int) -> np.ndarray:
    return np.abs(normal(*shape, seed=3)) + 0.5


@pytest.mark.parametrize("opset", [7, 9, 14, 15])
@pytest.mark.parametrize("rank", [0, 1, 2, 3])
def test_batch_norm(opset: int, rank: int) -> None:
    x = normal(3, 4, *(5, 6, 2)[:rank])
    arrays = [normal(4, seed=1), normal(4, seed=2), normal(4, seed=4), positive(4)]
    imported = check_inference("BatchNormalization", x, *arrays, opset=opset, epsilon=1e-3)
    assert sorted(imported.bindings) == ["in1", "in2", "in3", "in4"]


def check_inference(op: str, *arrays: np.ndarray, opset: int, **attributes: Any) -> Any:
    """As `check`, in inference: BatchNorm layers train by the statistics of a batch."""
    import onnx_ir as ir
    import torch
    from converter_checks import node_model, run_onnx

    from crespr_onnx.training.importer import import_model

    model = node_model(op, arrays, opset, **attributes)
    (expected,) = run_onnx(model, {"in0": arrays[0]})
    imported = import_model(ir.from_proto(model))
    found = imported.module.eval()(torch.from_numpy(arrays[0])).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    return imported


def test_batch_norm_with_computed_scale() -> None:
    arrays = [normal(2, 4, 3), normal(4), normal(4), normal(4), positive(4)]
    check("BatchNormalization", *arrays, opset=15, fed=(0, 1), gradients=False)


@pytest.mark.parametrize(
    ("opset", "outputs", "attributes", "reason"),
    [
        (7, 1, {"spatial": 0}, "its spatial=0 has no PyTorch counterpart"),
        (14, 3, {"training_mode": 1}, "it is in training mode"),
        (9, 5, {}, "it is in training mode"),
    ],
)
def test_other_batch_norms_are_refused(
    opset: int, outputs: int, attributes: dict[str, int], reason: str
) -> None:
    arrays = [normal(2, 4, 3), normal(4), normal(4), normal(4), positive(4)]
    more = {"opset": opset, "outputs": outputs, **attributes}
    assert refusal("BatchNormalization", *arrays, **more) == reason


@pytest.mark.parametrize("axis", [None, -1, 1, -2, 2])
@pytest.mark.parametrize("with_bias", [True, False])
def test_layer_norm(axis: int | None, with_bias: bool) -> None:
    x = normal(2, 3, 4)
    shape = x.shape[-1 if axis is None else axis :]
    arrays = [normal(*shape, seed=1)] + ([normal(*shape, seed=2)] if with_bias else [])
    attributes = {} if axis is None else {"axis": axis}
    imported = check("LayerNormalization", x, *arrays, opset=17, epsilon=1e-3, **attributes)
    assert len(imported.bindings) == 1 + with_bias


def test_layer_norm_with_a_broadcast_scale_or_statistics() -> None:
    check("LayerNormalization", normal(2, 3, 4), normal(3, 1), opset=17, axis=1)
    reason = refusal("LayerNormalization", normal(2, 3), normal(3), opset=17, outputs=3)
    assert reason == "its outputs besides the first, the statistics, are used"


@pytest.mark.parametrize("axis", [-1, 1])
def test_rms_norm(axis: int) -> None:
    x = normal(2, 3, 4)
    scale = normal(*x.shape[axis:], seed=1)
    check("RMSNormalization", x, scale, opset=23, axis=axis, epsilon=1e-3)


@pytest.mark.parametrize("opset", [18, 21])
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_group_norm(opset: int, groups: int) -> None:
    count = groups if opset == 18 else 6
    x, scale, bias = normal(2, 6, 4, 3), normal(count, seed=1), normal(count, seed=2)
    check("GroupNormalization", x, scale, bias, opset=opset, num_groups=groups, epsilon=1e-3)


@pytest.mark.parametrize("opset", [7, 22])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_instance_norm(opset: int, rank: int) -> None:
    x = normal(2, 4, *(5, 6, 2)[:rank])
    imported = check(
        "InstanceNormalization", x, normal(4, seed=1), normal(4, seed=2), opset=opset, epsilon=1e-3
    )
    assert sorted(imported.bindings) == ["in1", "in2"]


@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize("p", [1, 2])
def test_lp_norm(axis: int, p: int) -> None:
    for opset in (7, 22):
        check("LpNormalization", normal(2, 3, 4), opset=opset, axis=axis, p=p)


@pytest.mark.parametrize("opset", [9, 13])
def test_mean_variance_norm(opset: int) -> None:
    check("MeanVarianceNormalization", normal(2, 3, 4, 5), opset=opset)


@pytest.mark.parametrize("opset", [7, 13])
def test_local_response_norm(opset: int) -> None:
    check("LRN", normal(2, 5, 3, 3), opset=opset, size=3, alpha=0.01, beta=0.6, bias=1.5)
