"""The engines behind the choice: what decides for which target, and that they run."""

import re
from math import inf
from pathlib import Path

import onnx_ir as ir
import pytest
from form_models import SHAPES, conv_net

from crespr_onnx import CompressSettings
from crespr_onnx.forms import engine_tvm, of_run
from crespr_onnx.forms.contest import Contest
from crespr_onnx.forms.engine import Engine, OnnxRuntime
from crespr_onnx.forms.engine_estimate import Estimated
from crespr_onnx.forms.engine_for import engine_for
from crespr_onnx.forms.engine_tvm import Compiled, near_ones
from crespr_onnx.stages import plan_layout, train
from crespr_onnx.stages.lower import fold, split
from crespr_onnx.stages.masking import masked_copy
from crespr_onnx.stages.prepare import Prepared, prepare_model
from crespr_onnx.targets import find_target
from crespr_onnx.targets.remote import Board

DIGITS = Path(__file__).resolve().parents[2] / "samples" / "digits" / "digits.onnx"
LAYERS = ("one", "two", "three")
CONTEST = Contest(
    conv_net(), {form: dict.fromkeys(LAYERS, form) for form in ("grouped", "separate")}, SHAPES
)


def key(engine: Engine | None) -> dict[str, str]:
    assert engine is not None
    return dict(engine.key)


def test_every_target_has_its_engine():
    cpu, board = find_target("cpu"), Board("host", 9090)
    assert isinstance(engine_for(cpu, None), Compiled)
    assert isinstance(engine_for(find_target("armv7"), None), Estimated)
    assert engine_for(find_target("cuda:sm_90"), None) is None
    assert engine_for(find_target("cuda:sm_90"), board) is None
    there = engine_for(find_target("arm64:cortex-a72"), board)
    assert isinstance(there, Compiled)
    assert there.method == "measured in TVM on host:9090"
    assert there.key["cpu"] == "host:9090"


def test_keys_tell_engines_machines_and_targets_apart():
    keys = [
        key(OnnxRuntime()),
        *(key(engine_for(find_target(name), None)) for name in ("cpu", "armv7", "armv7:cortex-a7")),
        key(engine_for(find_target("cpu"), Board("host", 9090))),
    ]
    assert len({tuple(sorted(found.items())) for found in keys}) == len(keys)
    assert keys[0]["engine"].startswith("onnxruntime ")


def test_forms_that_cost_far_more_are_not_timed(monkeypatch: pytest.MonkeyPatch):
    assert list(near_ones(CONTEST, 4, inf)) == ["grouped", "separate"]
    assert list(near_ones(CONTEST, 4, 1.0)) == ["grouped"]
    costs = iter([3.0, 1.0])
    monkeypatch.setattr(engine_tvm, "estimate", lambda *_: next(costs))
    # The form that the others are held against stays even where it is the slowest.
    assert list(near_ones(CONTEST, 4, 1.0)) == ["grouped", "separate"]


def test_nothing_is_started_where_only_one_form_is_left():
    engine = Compiled(find_target("cpu"), 4, far=1.0)
    assert engine.time([CONTEST], lambda _: None) == [{}]


def test_estimates_are_of_all_forms():
    (found,) = Estimated(find_target("armv7"), 4).time([CONTEST], lambda _: None)
    assert found["separate"] > found["grouped"] > 0


def test_forms_are_compiled_and_timed_here():
    engine = Compiled(find_target("cpu"), 8, far=inf)
    (found,) = engine.time([CONTEST], lambda _: None)
    assert set(found) == {"grouped", "separate"}
    assert all(0 < time < 100 for time in found.values())


def test_what_cannot_be_run_has_no_time():
    shapes = {"x": (1, 3, 6, 6)}  # a channel too few
    contest = Contest(conv_net(), CONTEST.arrangements, shapes)
    assert OnnxRuntime().time([contest, CONTEST], lambda _: None)[0] == {}
    assert Compiled(find_target("cpu"), 8, far=inf).time([contest], lambda _: None) == [{}]


def small_digits(prepared: Prepared, settings: CompressSettings) -> ir.Model:
    """The digits model cut to its ratio."""
    scores = train.score(prepared.model, prepared.graph, None, settings)
    layout = plan_layout.possible_plans(prepared.graph, settings, scores)[0].layout
    return fold(split(masked_copy(prepared.model, prepared.graph, layout), prepared.graph, layout))


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("arm64", r"(grouped|batched) 1\.00, separate .*; relative cost by a model fitted to .*"),
        ("cuda", "not measured: no form has been timed on a CUDA device, so grouped is kept"),
    ],
)
def test_targets_that_cannot_be_timed_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, said: str
):
    monkeypatch.setenv("CRESPR_CACHE", str(tmp_path))
    settings = CompressSettings(DIGITS, 0.9, target=target, epochs=0, clusters=2)
    prepared = prepare_model(DIGITS)
    folded = small_digits(prepared, settings)
    found = of_run.forms_for_artefact(folded, settings, prepared, lambda _: None)
    assert len(found.reasons) == 3
    for reason in found.reasons.values():
        assert re.match(said, reason), reason
