"""Which of the forms each split layer of a graph has."""

from typing import Literal

import onnx_ir as ir

from crespr_onnx.passes.separate_groups import layer_name
from crespr_onnx.passes.surgery import LAYER, MODULE, clusters_of, is_op

Form = Literal["grouped", "separate", "dense"]
"""One operator over all clusters; one per cluster, in whole branches where neighbours have that
form too; one dense operator, with zeros between the clusters."""

FORMS: tuple[Form, ...] = ("grouped", "separate", "dense")


def split_layers(model: ir.Model) -> list[str]:
    """Names of the layers that are one operator over several clusters, in topological order."""
    return list(dict.fromkeys(layer_name(n) for n in model.graph if clusters_of(n) > 1))


def forms_of(model: ir.Model) -> dict[str, Form]:
    """The form of each layer that was split.

    A layer that has no mark of a cluster any more, but one of its layer, was merged.
    """
    found: dict[str, Form] = {}
    for node in model.graph:
        if not is_op(node, "Conv", "ConvTranspose", "Gemm", "MatMul"):
            continue
        if clusters_of(node) > 1:
            found[layer_name(node)] = "grouped"
        elif MODULE in node.metadata_props and LAYER in node.metadata_props:
            found[layer_name(node)] = "separate"
        elif LAYER in node.metadata_props:
            found[layer_name(node)] = "dense"
    return found


def form_word(form: str, *, batched: bool) -> str:
    """What reports call a form: clusters of a matrix product are batched, not grouped."""
    return "batched" if batched and form == "grouped" else form
