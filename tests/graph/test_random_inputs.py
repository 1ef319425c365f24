"""Shapes and random arrays from signatures."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from crespr_onnx.errors import UsageError
from crespr_onnx.graph.random_inputs import input_shapes_for, open_shapes, random_array
from crespr_onnx.graph.signature import Dim, ModelSignature, TensorSpec


def spec(name: str, *dims: Dim, dtype: Any = np.float32) -> TensorSpec:
    return TensorSpec(name, np.dtype(dtype), dims)


IMAGE = spec("image", "batch", 3, "h", "w")
STATE = spec("state", 2, "batch", 8)
SCALE = spec("scale")
SIGNATURE = ModelSignature((IMAGE, STATE, SCALE), (spec("y", "batch"),))


def test_the_batch_is_filled_in_wherever_its_symbol_is() -> None:
    shapes = open_shapes(SIGNATURE, batch=5)
    assert shapes == {"image": (5, 3, None, None), "state": (2, 5, 8), "scale": ()}
    given = {"image": (1, 3, 32, 24)}
    assert input_shapes_for(SIGNATURE, batch=5, given=given)["image"] == (5, 3, 32, 24)


def test_a_dynamic_axis_must_be_given() -> None:
    match = r"float32\[batch,3,h,w\] is dynamic on axis 2 .*--input-shape image:1x3xNxN"
    with pytest.raises(UsageError, match=match):
        input_shapes_for(SIGNATURE)


@pytest.mark.parametrize(
    "shape", [(1, 3, 32), (1, 4, 32, 32), (1, 3, 0, 32), (1, 3, 32, 32, 1), ()]
)
def test_a_given_shape_must_fit(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"does not fit input image: .*as many positive numbers"):
        input_shapes_for(SIGNATURE, given={"image": shape})


def test_a_shape_for_no_input() -> None:
    with pytest.raises(UsageError, match="input 'picture', which the model does not have"):
        open_shapes(SIGNATURE, given={"picture": (1,)})


@pytest.mark.parametrize(
    "dtype",
    [np.float16, np.float32, np.float64, np.int8, np.uint8, np.int32, np.int64, np.uint32, bool],
)
def test_arrays_have_the_type_and_fit_tables(dtype: type) -> None:
    rng = np.random.default_rng(0)
    array = random_array(spec("x", "n", 50, dtype=dtype), (4, 50), rng)
    assert array.dtype == dtype
    assert array.shape == (4, 50)
    assert len(np.unique(array)) > 1
    if np.dtype(dtype).kind in "iu" and np.dtype(dtype).itemsize > 1:
        assert 0 <= array.min() <= array.max() < 10


def test_bytes_take_all_values() -> None:
    array = random_array(spec("x", 9999, dtype=np.uint8), (9999,), np.random.default_rng(0))
    assert (array.min(), array.max()) == (0, 255)


def test_bfloat16_is_a_float() -> None:
    array = random_array(spec("x", 3, dtype=ml_dtypes.bfloat16), (3,), np.random.default_rng(0))
    assert array.dtype == ml_dtypes.bfloat16


def test_other_types_need_real_inputs() -> None:
    with pytest.raises(UsageError, match=r"x: string\[3\] cannot be drawn at random; give real"):
        random_array(spec("x", 3, dtype=object), (3,), np.random.default_rng(0))
