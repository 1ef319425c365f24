"""What the cost model counts, and the data that it multiplies by."""

import json

import pytest
from form_models import SHAPES, conv_net

from crespr_onnx.forms.cost_model import FEATURES, FILE, estimate, features_of, load_coefficients
from crespr_onnx.passes.layer_forms import Form
from crespr_onnx.stages.lower import arrange


def counted(form: Form, lanes: int = 4) -> dict[str, float]:
    model = arrange(conv_net(), dict.fromkeys(("one", "two", "three"), form))
    return features_of(model, SHAPES, lanes)


def test_grouped_layers_are_one_kernel_each_with_their_selection():
    # 36 positions; three layers of 2 clusters that read 2 channels, and one of 6 outputs from 4.
    assert counted("grouped") == {
        "call": 1, "kernels": 4, "vector_macs": 36 * (3 * 2 * 2 + 4 * 2), "copied": 0,
        "weights": 3 * 8 + 24,
    }  # fmt: skip


def test_separate_layers_copy_what_is_split_and_joined():
    found = counted("separate")
    # The chain is split and joined once, the third layer again, behind its selection.
    assert found["copied"] == 36 * (4 + 4 + 4 + 4 + 4)
    # Per chain or layer two outputs of a Split and a Concat; the selection; seven convolutions.
    assert found["kernels"] == 3 + 3 + 1 + 7
    assert (found["vector_macs"], found["weights"]) == (36 * (3 * 2 * 2 + 4 * 2), 3 * 8 + 24)


def test_dense_layers_multiply_zeros():
    # The third layer reads all 6 channels instead of a selection of 4.
    assert counted("dense") == {
        "call": 1, "kernels": 4, "vector_macs": 36 * (4 + 4 + 6 + 4 * 2), "copied": 0,
        "weights": 16 + 16 + 24 + 24,
    }  # fmt: skip


def test_wider_registers_leave_lanes_unused():
    assert counted("grouped", 8)["vector_macs"] == 36 * (3 * 2 * 2 + 4)


def test_the_data_says_what_it_was_fitted_to():
    content = json.loads(FILE.read_text())
    assert list(content) == ["fitted_to", "command", "us"]
    assert tuple(content["us"]) == FEATURES
    assert all(value >= 0 for value in content["us"].values())
    assert "--fit" in content["command"]


def test_costs_are_sums():
    coefficients = load_coefficients()
    expected = sum(coefficients[name] * value for name, value in counted("grouped").items())
    assert estimate(arrange(conv_net(), {}), SHAPES, 4) == pytest.approx(1e-3 * expected)
