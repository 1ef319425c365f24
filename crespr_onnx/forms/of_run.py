"""The forms of a run's model and of its artefact, as its settings ask for them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import floor

import onnx_ir as ir

from crespr_onnx.forms.cache import user_cache
from crespr_onnx.forms.decide import decide
from crespr_onnx.forms.engine import Engine, OnnxRuntime
from crespr_onnx.forms.engine_for import NEVER_TIMED, engine_for
from crespr_onnx.forms.explain import explain
from crespr_onnx.graph.accounting import stored_weights
from crespr_onnx.graph.random_inputs import input_shapes_for
from crespr_onnx.passes.layer_forms import Form, split_layers
from crespr_onnx.settings import CompressSettings
from crespr_onnx.stages.any_batch import as_declared
from crespr_onnx.stages.prepare import Prepared, infer_shapes
from crespr_onnx.targets import find_target
from crespr_onnx.targets.remote import find_board

ROUNDING = 1e-6
"""1 - 0.9 is a little less than a tenth in binary fractions."""


@dataclass(frozen=True)
class ChosenForms:
    """Forms of split layers.

    Attributes:
        forms: by layer.
        reasons: why, by layer; empty for forms that were given.
    """

    forms: Mapping[str, Form]
    reasons: Mapping[str, str] = field(default_factory=dict)


def is_choice(folded: ir.Model, settings: CompressSettings) -> bool:
    """Whether there is anything to choose."""
    return settings.form == "auto" and bool(split_layers(folded))


def given_forms(folded: ir.Model, settings: CompressSettings) -> ChosenForms:
    """The forms that settings ask for; "auto" counts as grouped."""
    form: Form = "separate" if settings.form == "separate" else "grouped"
    return ChosenForms(dict.fromkeys(split_layers(folded), form))


def forms_for_model(
    folded: ir.Model,
    settings: CompressSettings,
    prepared: Prepared,
    done: Callable[[float], None],
) -> ChosenForms:
    """What is fastest in ONNX Runtime here.

    Args:
        folded: what `stages.lower.fold` made.
        settings: of the run.
        prepared: the input model.
        done: told the share of the work that is behind.
    """
    return _choose(folded, OnnxRuntime(), settings, prepared, done)


def forms_for_artefact(
    folded: ir.Model,
    settings: CompressSettings,
    prepared: Prepared,
    done: Callable[[float], None],
) -> ChosenForms:
    """What is fastest once it is compiled for the target, as far as that can be known."""
    target = find_target(settings.target)
    engine = engine_for(target, find_board(settings.rpc, target))
    if engine is None:
        layers = split_layers(folded)
        return ChosenForms(dict.fromkeys(layers, "grouped"), dict.fromkeys(layers, NEVER_TIMED))
    return _choose(folded, engine, settings, prepared, done)


def _choose(
    folded: ir.Model,
    engine: Engine,
    settings: CompressSettings,
    prepared: Prepared,
    done: Callable[[float], None],
) -> ChosenForms:
    declared = as_declared(folded, prepared)
    infer_shapes(declared)
    shapes = input_shapes_for(prepared.loaded.signature, 1, settings.input_shapes or None)
    room = _room(folded, settings, prepared)
    decision = decide(declared, shapes, engine, room, user_cache(), done)
    return ChosenForms(decision.forms, explain(decision, engine, prepared.graph))


def _room(folded: ir.Model, settings: CompressSettings, prepared: Prepared) -> int:
    """How many weights a model may store beyond what it does with all layers grouped.

    No room at all if work was limited as well: zeros are multiplied, too.
    """
    if settings.mac_ratio is not None:
        return 0
    allowed = floor((1.0 - settings.ratio) * prepared.graph.weights + ROUNDING)
    return max(0, allowed - stored_weights(folded))
