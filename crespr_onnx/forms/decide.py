"""From a model whose split layers can take any form to the forms that take the least time."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import onnx_ir as ir

from crespr_onnx.forms.cache import Cache
from crespr_onnx.forms.choose import Choice, Timed, choose, fastest
from crespr_onnx.forms.clock import Clock
from crespr_onnx.forms.contest import WHOLE_TURN, Contest, Shapes, static_dims
from crespr_onnx.forms.engine import Engine, format_microseconds
from crespr_onnx.forms.units import Unit, find_units, part_of
from crespr_onnx.graph.accounting import stored_weights
from crespr_onnx.passes.layer_forms import FORMS, Form, split_layers
from crespr_onnx.passes.merge_groups import MergeGroups
from crespr_onnx.stages.lower import arrange

CHOSEN = "chosen"
"""Name of the model in the forms of its units, beside those in which all layers have one form."""


@dataclass(frozen=True)
class LayerChoice:
    """The form of a layer, and why.

    Attributes:
        form: its form.
        times: milliseconds by form of the unit that it belongs to; empty if it was not timed.
        remark: what else there is to say, or "".
    """

    form: Form
    times: Mapping[Form, float] = field(default_factory=dict)
    remark: str = ""


@dataclass(frozen=True)
class Decision:
    """The forms of all split layers.

    Attributes:
        layers: by name, in topological order.
        timed: how many contests were timed; what the cache knew is not counted.
    """

    layers: Mapping[str, LayerChoice] = field(default_factory=dict)
    timed: int = 0

    @property
    def forms(self) -> dict[str, Form]:
        """The form of each layer."""
        return {name: choice.form for name, choice in self.layers.items()}


def decide(
    folded: ir.Model,
    shapes: Shapes,
    engine: Engine,
    allowance: int,
    cache: Cache,
    done: Callable[[float], None],
) -> Decision:
    """Chooses the form of each unit by its time, and then that of the whole model.

    A unit is timed with what lies around it (`units`), but alone, and what an engine makes of the
    whole may be something else. So the model in the forms of its units is timed beside those in
    which all layers have one form, and the fastest of these counts.

    Args:
        folded: what `stages.lower.fold` made, with the interface that is delivered.
        shapes: of its inputs, for one sample.
        engine: what it is to run on.
        allowance: how many weights it may store beyond what it does with all layers grouped.
        cache: times that are known.
        done: told the share of the work that is behind.
    """
    units = find_units(folded)
    clock = Clock(engine, cache)
    dims = static_dims(folded, shapes)
    parts = [part_of(folded, unit) for unit in units]
    contests = [_part_contest(part, unit, dims) for part, unit in zip(parts, units, strict=True)]
    found = clock.time(contests, lambda share: done(0.8 * share))
    timed = [
        Timed({form: times[form] for form in FORMS if form in times}, partial(_extra, part))
        for times, part in zip(found, parts, strict=True)
    ]
    layers = {}
    for unit, each, choice in zip(units, timed, choose(timed, allowance), strict=True):
        made = LayerChoice(choice.form, each.times, _remark(unit, each, choice))
        layers.update(dict.fromkeys(unit.layers, made))
    layers = {name: layers[name] for name in split_layers(folded)}
    if _added(folded, layers) > allowance:
        layers = {name: _without_dense(choice) for name, choice in layers.items()}
    if units and not engine.estimates:
        layers = _hold_to_whole(folded, shapes, layers, clock)
    done(1.0)
    return Decision(layers, clock.timed)


def _part_contest(part: ir.Model, unit: Unit, dims: Shapes) -> Contest:
    forms: dict[str, dict[str, Form]] = {form: dict.fromkeys(unit.layers, form) for form in FORMS}
    shapes = {v.name or "": dims.get(v.name or "", ()) for v in part.graph.inputs}
    return Contest(part, forms, shapes)


def _extra(part: ir.Model) -> int:
    """Weights that the dense form of a unit stores and the grouped one does not."""
    dense = part.clone(deep_copy=True)
    MergeGroups()(dense)
    return stored_weights(dense) - stored_weights(part)


def _remark(unit: Unit, timed: Timed, choice: Choice) -> str:
    said = []
    if len(unit.layers) > 1:
        said.append(f"timed as a chain of {len(unit.layers)} layers from {unit.name}")
    if choice.refused:
        said.append(f"dense stores {timed.extra():,} weights more than the ratio leaves room for")
    return "; ".join(said)


def _added(folded: ir.Model, layers: Mapping[str, LayerChoice]) -> int:
    """Weights that a model stores beyond what it does with all layers grouped.

    Units that share a weight may need it merged in several ways, which none of them can tell.
    """
    forms = {name: choice.form for name, choice in layers.items() if choice.form == "dense"}
    if not forms:
        return 0
    return stored_weights(arrange(folded, forms)) - stored_weights(arrange(folded, {}))


def _without_dense(choice: LayerChoice) -> LayerChoice:
    if choice.form != "dense":
        return choice
    remark = "dense stores more weights than the ratio leaves room for, since layers share them"
    return replace(choice, form="grouped", remark=remark)


def _hold_to_whole(
    folded: ir.Model,
    shapes: Shapes,
    layers: dict[str, LayerChoice],
    clock: Clock,
) -> dict[str, LayerChoice]:
    """The forms of the fastest of three models: as chosen, all grouped, all separate."""
    wanted: dict[str, dict[str, Form]] = {
        "grouped": dict.fromkeys(layers, "grouped"),
        CHOSEN: {name: choice.form for name, choice in layers.items()},
        "separate": dict.fromkeys(layers, "separate"),
    }
    distinct: dict[str, dict[str, Form]] = {}
    for name, forms in wanted.items():
        if forms not in distinct.values():
            distinct[name] = forms
    (times,) = clock.time([Contest(folded, distinct, shapes, WHOLE_TURN)], lambda _: None)
    if "grouped" not in times:
        return layers
    best = fastest(times, CHOSEN if CHOSEN in times else "grouped")
    if best != "grouped":
        best = fastest({name: times[name] for name in ("grouped", best)}, "grouped")
    if wanted[best] == wanted[CHOSEN]:
        return layers
    overruled = (
        f"the whole model takes {format_microseconds(times[best])} with all layers {best}, "
        f"{format_microseconds(times.get(CHOSEN, times['grouped']))} with the best of each"
    )
    return {
        name: replace(
            choice,
            form=wanted[best][name],
            remark="; ".join(filter(None, (choice.remark, overruled))),
        )
        for name, choice in layers.items()
    }
