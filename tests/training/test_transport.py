"""The transportation solver against the general assignment solver, which is slow but known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from crespr_onnx.training.transport import transport


def best_value(value: NDArray[np.float64], capacity: NDArray[np.int64]) -> float:
    """The highest value there is: each bin as so many equal columns."""
    columns = np.repeat(np.arange(len(capacity)), capacity)
    rows, chosen = linear_sum_assignment(value[:, columns], maximize=True)
    return float(value[rows, columns[chosen]].sum())


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.integers(1, 40),
    st.integers(1, 6),
    st.sampled_from(["distinct", "ties", "skewed", "negative", "equal"]),
    st.integers(0, 10**6),
)
def test_best_value(items: int, bins: int, kind: str, seed: int):
    random = np.random.default_rng(seed)
    value = {
        "distinct": random.random((items, bins)),
        "ties": random.integers(0, 3, (items, bins)).astype(np.float64),
        "skewed": random.random((items, bins)) * 10.0 ** random.integers(-6, 6, (items, 1)),
        "negative": random.normal(size=(items, bins)),
        "equal": np.zeros((items, bins)),
    }[kind]
    capacity = np.bincount(random.integers(0, bins, items), minlength=bins)
    chosen = transport(value, capacity)
    np.testing.assert_array_equal(np.bincount(chosen, minlength=bins), capacity)
    found = value[np.arange(items), chosen].sum()
    scale = np.abs(value).max()
    assert found == pytest.approx(best_value(value, capacity), abs=1e-9 * scale * items)


def test_the_same_every_time():
    random = np.random.default_rng(0)
    value = random.integers(0, 4, (200, 9)).astype(np.float64)
    capacity = np.array([20] * 8 + [40])
    first = transport(value, capacity)
    np.testing.assert_array_equal(first, transport(value.copy(), capacity.copy()))


def test_values_stay_untouched():
    value = np.array([[1.0, 2.0], [1.0, 5.0]])
    assert transport(value, np.array([1, 1])).tolist() == [0, 1]
    assert value.tolist() == [[1.0, 2.0], [1.0, 5.0]]
