"""What the report says of a choice."""

from dataclasses import replace

import numpy as np
import pytest

from crespr_onnx.forms.decide import Decision, LayerChoice
from crespr_onnx.forms.engine import OnnxRuntime, format_microseconds
from crespr_onnx.forms.engine_estimate import Estimated
from crespr_onnx.forms.explain import explain
from crespr_onnx.layout import ChannelGraph, WeightedEdge
from crespr_onnx.record import ArtefactLayer
from crespr_onnx.stages.measure import artefact_layers
from crespr_onnx.targets import find_target

NONE = np.array([], np.int64)
CONV = WeightedEdge("conv", "Conv", "w", 1, 0, NONE, NONE, 1, 1)
GRAPH = ChannelGraph((), (CONV, replace(CONV, name="fc", op="Gemm")), {}, {}, {})
TIMES = {"grouped": 0.0412, "separate": 0.0551}


def test_times_have_the_names_that_forms_have_for_the_operator() -> None:
    decision = Decision(
        {"conv": LayerChoice("grouped", TIMES), "fc": LayerChoice("grouped", TIMES, "and so on")}
    )
    assert explain(decision, OnnxRuntime(), GRAPH) == {
        "conv": "grouped 41.2 us, separate 55.1 us; measured in ONNX Runtime",
        "fc": "batched 41.2 us, separate 55.1 us; measured in ONNX Runtime; and so on",
    }


def test_estimates_are_relative() -> None:
    found = explain(
        Decision({"conv": LayerChoice("grouped", {"grouped": 2.0, "dense": 3.0})}),
        Estimated(find_target("armv7"), 4),
        GRAPH,
    )
    said = "grouped 1.00, dense 1.50; relative cost by a model fitted to kernels timed on x86"
    assert found == {"conv": f"{said}, not measured"}


def test_what_was_not_timed_says_so() -> None:
    decision = Decision({"conv": LayerChoice("grouped")})
    assert explain(decision, OnnxRuntime(), GRAPH) == {"conv": "not timed"}


@pytest.mark.parametrize(("ms", "text"), [(0.00123, "1.23 us"), (1.5, "1,500 us"), (0.1, "100 us")])
def test_microseconds_have_three_digits(ms: float, text: str) -> None:
    assert format_microseconds(ms) == text


def test_layers_of_an_artefact() -> None:
    forms = {"fc": "grouped", "conv": "separate"}
    assert artefact_layers(GRAPH, forms, {"fc": "a", "conv": "b"}) == (
        ArtefactLayer("conv", "separate", "b"),
        ArtefactLayer("fc", "batched", "a"),
    )
    assert artefact_layers(GRAPH, forms, {}) == ()
