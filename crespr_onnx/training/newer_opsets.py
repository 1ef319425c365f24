"""Lets onnx2torch import operators of newer opsets that compute what an older version computes.

onnx2torch has a converter per exact version of an operator. Most later versions only add element
types, or attributes whose default is the old behaviour; those listed here were compared with the
changelog of the ONNX operators. Versions that are not listed stay refused.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

_EVERY_TYPE = (19, 21, 23, 24, 25)

# Operator -> (newest version with a converter, later versions that compute the same).
_SAME: Mapping[str, tuple[int, tuple[int, ...]]] = {
    "AveragePool": (11, (19, 22)),
    "Cast": (13, _EVERY_TYPE),
    "ConstantOfShape": (9, (20, 21, 23, 24, 25)),
    "Conv": (11, (22,)),
    "ConvTranspose": (11, (22,)),
    "Cos": (7, (22,)),
    "Dropout": (13, (22,)),
    "Elu": (6, (22,)),
    "Equal": (13, (19,)),
    "Flatten": (13, (21, 23, 24, 25)),
    "GlobalAveragePool": (1, (22,)),
    "GreaterOrEqual": (12, (16,)),
    "HardSigmoid": (6, (22,)),
    "HardSwish": (14, (22,)),
    "Identity": (16, _EVERY_TYPE),
    "InstanceNormalization": (6, (22,)),
    "LessOrEqual": (12, (16,)),
    "MaxPool": (12, (22,)),
    "Pad": (13, (18, *_EVERY_TYPE)),
    "Reshape": (14, _EVERY_TYPE),
    "Round": (11, (22,)),
    "Selu": (6, (22,)),
    "Shape": (15, _EVERY_TYPE),
    "Sin": (7, (22,)),
    "Softplus": (1, (22,)),
    "Softsign": (1, (22,)),
    "Split": (13, (18,)),
    "Squeeze": (21, (23, 24, 25)),
    "Transpose": (13, (21, 23, 24, 25)),
    "Unsqueeze": (13, (21, 23, 24, 25)),
}
# What a later version added, and whether a node goes without it.
_WITHOUT: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "AveragePool": ("dilations", lambda node: set(node.attributes.get("dilations", ())) <= {1}),
    "Pad": ("axes", lambda node: len(node.input_values) < 4),
    "Split": ("num_outputs", lambda node: "num_outputs" not in node.attributes),
}


@cache
def accept_newer_opsets() -> None:
    """Tells onnx2torch about the versions above; once per process."""
    from onnx2torch.node_converters.registry import add_converter, get_converter

    for operator, (known, later) in _SAME.items():
        converter = _guarded(operator, get_converter(operator, known))
        for version in later:
            add_converter(operator, version)(converter)


def _guarded(operator: str, converter: Any) -> Any:  # noqa: ANN401 - of a library without types
    """Refuses what the older version does not know, rather than ignore it."""
    if operator not in _WITHOUT:
        return converter
    added, is_without = _WITHOUT[operator]

    def guarded(node: Any, graph: Any) -> Any:  # noqa: ANN401
        if not is_without(node):
            raise NotImplementedError(f"{operator} with {added} has no PyTorch counterpart")
        return converter(node, graph)

    return guarded
