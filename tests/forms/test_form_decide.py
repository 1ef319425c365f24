"""The whole choice: with an engine of given times, and with ONNX Runtime as it is."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from form_models import SHAPES, conv_net, normal

from crespr_onnx.forms.cache import Cache
from crespr_onnx.forms.choose import MARGIN
from crespr_onnx.forms.contest import Contest
from crespr_onnx.forms.decide import CHOSEN, Decision, decide
from crespr_onnx.forms.engine import OnnxRuntime, Times
from crespr_onnx.graph.session import run
from crespr_onnx.passes.layer_forms import forms_of
from crespr_onnx.stages.lower import arrange

ROOM = 10**6


class Given:
    """An engine that says what it is told to; parts are known by how many inputs they list."""

    method, otherwise = "given", "not timed"

    def __init__(self, *answers: Times, estimates: bool = False) -> None:
        self.estimates = estimates
        self.seen: list[Contest] = []
        self._answers = list(answers)

    @property
    def key(self) -> Mapping[str, str]:
        return {"engine": "given"}

    def time(self, contests: Sequence[Contest], done: Callable[[float], None]) -> list[Times]:
        self.seen += contests
        return [self._answers.pop(0) for _ in contests]


CHAIN = {"grouped": 4.0, "separate": 2.0, "dense": 3.0}
LAST = {"grouped": 4.0, "separate": 5.0, "dense": 1.0}


def choice(engine: Given, folder: Path, allowance: int = ROOM) -> Decision:
    return decide(conv_net(), SHAPES, engine, allowance, Cache(folder), lambda _: None)


def test_units_get_their_fastest_forms_if_the_whole_agrees(tmp_path: Path):
    whole = {"grouped": 9.0, CHOSEN: 5.0, "separate": 8.0}
    engine = Given(CHAIN, LAST, whole)
    found = choice(engine, tmp_path)
    assert found.forms == {"one": "separate", "two": "separate", "three": "dense"}
    assert found.timed == 3
    assert found.layers["one"].times == CHAIN
    assert found.layers["two"].remark == "timed as a chain of 2 layers from one"
    assert found.layers["three"].remark == ""
    assert [list(c.arrangements) for c in engine.seen] == [
        ["grouped", "separate", "dense"], ["grouped", "separate", "dense"],
        ["grouped", CHOSEN, "separate"],
    ]  # fmt: skip


@pytest.mark.parametrize("best", ["grouped", "separate"])
def test_the_whole_overrules_its_parts(tmp_path: Path, best: str):
    whole = {"grouped": 5.0, CHOSEN: 5.0, "separate": 6.0, best: 4.0}
    found = choice(Given(CHAIN, LAST, whole), tmp_path)
    assert set(found.forms.values()) == {best}
    said = f"the whole model takes 4,000 us with all layers {best}, 5,000 us with the best of each"
    assert found.layers["three"].remark == said


def test_a_whole_that_is_hardly_faster_stays_grouped(tmp_path: Path):
    whole = {"grouped": 5.0, CHOSEN: 4.9, "separate": 4.95}
    assert set(choice(Given(CHAIN, LAST, whole), tmp_path).forms.values()) == {"grouped"}


def test_the_ratio_limits_dense_layers(tmp_path: Path):
    whole = {"grouped": 9.0, CHOSEN: 5.0, "separate": 8.0}
    # Two clusters read 2 of 6 channels each: 4 outputs of 6 instead of 2 inputs.
    found = choice(Given(CHAIN, LAST, whole), tmp_path, allowance=15)
    assert found.forms["three"] == "grouped"
    assert found.layers["three"].remark == (
        "dense stores 16 weights more than the ratio leaves room for"
    )
    assert choice(Given(CHAIN, LAST, whole), tmp_path / "b", 16).forms["three"] == "dense"


def test_where_parts_say_it_all_the_whole_is_not_asked(tmp_path: Path):
    found = choice(Given(CHAIN, LAST, estimates=True), tmp_path)
    assert (found.timed, found.forms["one"]) == (2, "separate")


def test_equal_parts_are_timed_once(tmp_path: Path):
    engine = Given(CHAIN, LAST, {"grouped": 9.0, CHOSEN: 5.0, "separate": 8.0})
    first = choice(engine, tmp_path)
    again = Given()
    second = choice(again, tmp_path)
    assert again.seen == []
    assert (second.timed, second.layers) == (0, first.layers)


def test_onnx_runtime_chooses_what_it_measured(tmp_path: Path):
    model = conv_net()
    shares: list[float] = []
    found = decide(model, SHAPES, OnnxRuntime(), ROOM, Cache(tmp_path), shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    for layer in found.layers.values():
        assert set(layer.times) == {"grouped", "separate", "dense"}
        if "whole model" not in layer.remark:
            assert layer.times[layer.form] * (1.0 - MARGIN) <= min(layer.times.values())
    chosen = arrange(model, found.forms)
    assert forms_of(chosen) == found.forms
    feeds = {"x": normal(5, 2, 4, 6, 6)}
    np.testing.assert_allclose(
        run(chosen, feeds)["y"], run(model, feeds)["y"], rtol=1e-4, atol=1e-5
    )
    again = decide(model, SHAPES, OnnxRuntime(), ROOM, Cache(tmp_path), lambda _: None)
    assert found.timed in (2, 3)  # the whole takes no part where all of it stays grouped
    assert (again.timed, again.layers) == (0, found.layers)


def test_a_time_that_is_missing_leaves_its_form_out(tmp_path: Path):
    found = choice(Given({"grouped": 2.0, "dense": 3.0}, {}, {}), tmp_path)
    assert set(found.forms.values()) == {"grouped"}
    assert found.layers["three"].times == {}
