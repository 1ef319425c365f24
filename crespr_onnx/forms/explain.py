"""What a report says of the choice."""

from collections.abc import Mapping

from crespr_onnx.forms.decide import Decision, LayerChoice
from crespr_onnx.forms.engine import format_microseconds
from crespr_onnx.layout import ChannelGraph
from crespr_onnx.passes.layer_forms import Form, form_word


def explain(decision: Decision, graph: ChannelGraph) -> dict[str, str]:
    """Why each layer has its form, by its name."""
    batched = {edge.name for edge in graph.edges if not edge.is_convolution}
    return {
        name: _reason(choice, decision.method, name in batched)
        for name, choice in decision.layers.items()
    }


def _reason(choice: LayerChoice, method: str, batched: bool) -> str:
    parts = []
    if choice.times:
        parts.append(f"{_figures(choice.times, batched)}; {method}")
    if choice.remark:
        parts.append(choice.remark)
    return "; ".join(parts)


def _figures(times: Mapping[Form, float], batched: bool) -> str:
    return ", ".join(
        f"{form_word(form, batched=batched)} {format_microseconds(time)}"
        for form, time in times.items()
    )
