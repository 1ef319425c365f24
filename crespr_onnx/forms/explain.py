"""What a report says of the choice."""

from collections.abc import Mapping

from crespr_onnx.forms.decide import Decision, LayerChoice
from crespr_onnx.forms.engine import Engine, format_microseconds
from crespr_onnx.layout import ChannelGraph
from crespr_onnx.passes.layer_forms import Form, form_word


def explain(decision: Decision, engine: Engine, graph: ChannelGraph) -> dict[str, str]:
    """Why each layer has its form, by its name."""
    batched = {edge.name for edge in graph.edges if not edge.is_convolution}
    return {
        name: _reason(choice, engine, name in batched) for name, choice in decision.layers.items()
    }


def _reason(choice: LayerChoice, engine: Engine, batched: bool) -> str:
    words = {form: form_word(form, batched=batched) for form in choice.times}
    if not choice.times:
        said = engine.otherwise
    elif engine.estimates:
        said = f"{_ratios(choice.times, words)}; {engine.method}"
    else:
        times = (f"{words[form]} {format_microseconds(t)}" for form, t in choice.times.items())
        said = f"{', '.join(times)}; {engine.method}"
    return "; ".join(filter(None, (said, choice.remark)))


def _ratios(times: Mapping[Form, float], words: Mapping[Form, str]) -> str:
    """Estimates are no times: only what they are relative to one another means something."""
    least = min(times.values())
    return ", ".join(f"{words[form]} {time / least:.2f}" for form, time in times.items())
