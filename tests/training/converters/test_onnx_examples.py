"""ONNX's own examples of its operators: each is computed as ONNX says, or refused."""

import warnings

import numpy as np
import onnx_ir as ir
import torch
from onnx.backend.test.case.node import collect_testcases

from crespr_onnx.errors import ModelError
from crespr_onnx.training.importer import import_model

torch.set_num_threads(1)

# Where the outcome is another, and why.
OTHERWISE = {
    "test_reduce_max_empty_set": "PyTorch has no maximum of nothing",
    "test_reduce_max_empty_set_bool": "PyTorch has no maximum of nothing",
    "test_reduce_min_empty_set": "PyTorch has no minimum of nothing",
    "test_resize_downsample_scales_cubic_align_corners": "ONNX Runtime, too, rounds the length",
    "test_resize_downsample_scales_linear_align_corners": "ONNX Runtime, too, rounds the length",
}
# PyTorch has these types, but no arithmetic with them.
UNSIGNED = ("uint16", "uint32", "uint64")
LEAST = 1100
"""Cases that were computed when this was written, rounded down."""


def arrays(values: list[object]) -> list[np.ndarray] | None:
    """Tensors that PyTorch can take, or None if there are others."""
    if not all(isinstance(value, np.ndarray | np.generic) for value in values):
        return None
    found = [np.asarray(value) for value in values]
    if any(a.dtype.name in UNSIGNED or a.dtype.kind not in "fiub" for a in found):
        return None
    return found


def test_examples() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's, about numbers that are meant to overflow
        cases = collect_testcases(None)
    wrong, computed = {}, 0
    for case in cases:
        inputs, outputs = (arrays(list(values)) for values in case.data_sets[0])
        if inputs is None or outputs is None:
            continue
        try:
            module = import_model(ir.from_proto(case.model)).module.eval()
        except ModelError:
            continue
        try:
            with torch.no_grad():
                found = module(*[torch.from_numpy(x.copy()) for x in inputs])
            assert_equal(list(found) if isinstance(found, list | tuple) else [found], outputs)
            computed += 1
        except (AssertionError, IndexError, RuntimeError, TypeError) as error:
            wrong[case.name] = str(error)
    assert wrong.keys() == OTHERWISE.keys(), {n: e for n, e in wrong.items() if n not in OTHERWISE}
    assert computed >= LEAST


def assert_equal(found: list[torch.Tensor], expected: list[np.ndarray]) -> None:
    for tensor, array in zip(found, expected, strict=True):
        result = tensor.numpy()
        assert (result.shape, result.dtype) == (array.shape, array.dtype)
        # Some examples are given with four digits.
        tolerance = 2e-3 if array.dtype == np.float16 else 1e-4
        np.testing.assert_allclose(result.astype(float), array.astype(float), tolerance, 1e-4)
