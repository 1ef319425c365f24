"""The table of converters against the definitions of the operators."""

import inspect

import onnx
import pytest
from onnx2torch.node_converters.registry import get_converter

from crespr_onnx.training.converters import windows
from crespr_onnx.training.converters.node import CannotConvertError
from crespr_onnx.training.converters.table import ALIASES, CONVERTERS, find_converter

SCHEMAS = {
    (s.name, s.since_version): s for s in onnx.defs.get_all_schemas_with_history() if s.domain == ""
}
UNREAD = {
    ("Attention", "qk_matmul_output_mode"): "the output that it concerns is refused",
    ("Attention", "softmax_precision"): "models are of float32, which it asks for",
    ("BatchNormalization", "momentum"): "of training, which ONNX Runtime does not do either",
    ("Cast", "round_mode"): "concerns 8-bit floats, to which a cast is refused",
    ("Cast", "saturate"): "concerns 8-bit floats, to which a cast is refused",
    ("CastLike", "round_mode"): "concerns 8-bit floats, which cannot be a tensor here",
    ("CastLike", "saturate"): "concerns 8-bit floats, which cannot be a tensor here",
    ("Dropout", "ratio"): "nothing is dropped",
    ("Dropout", "seed"): "nothing is dropped",
    ("GRU", "activation_alpha"): "activations that take it are refused",
    ("GRU", "activation_beta"): "activations that take it are refused",
    ("GRU", "hidden_size"): "the weights have it",
    ("LSTM", "activation_alpha"): "activations that take it are refused",
    ("LSTM", "activation_beta"): "activations that take it are refused",
    ("LSTM", "hidden_size"): "the weights have it",
    ("MaxPool", "storage_order"): "the output that it concerns is refused",
    ("RNN", "activation_alpha"): "activations that take it are refused",
    ("RNN", "activation_beta"): "activations that take it are refused",
    ("RNN", "hidden_size"): "the weights have it",
    ("Range", "stash_type"): "float32, its only useful value, is what counts",
    ("ReverseSequence", "batch_axis"): "it is the axis that time_axis is not",
    ("Resize", "extrapolation_value"): "the coordinate transformation that it concerns is refused",
    ("TopK", "sorted"): "what is not sorted may come in any order",
}
"""Attributes that no converter reads, and why."""
NEWEST = onnx.defs.onnx_opset_version()


def meaning(schema: onnx.defs.OpSchema) -> tuple[object, ...]:
    """All of a definition but its text and its element types."""

    def formal(parameters):
        return [(p.name.lower(), p.option, p.min_arity) for p in parameters]

    def default(attribute):
        return onnx.helper.get_attribute_value(attribute) if attribute.name else None

    attributes = {
        name: (a.type, a.required, default(a.default_value))
        for name, a in schema.attributes.items()
    }
    return formal(schema.inputs), formal(schema.outputs), attributes


@pytest.mark.parametrize("key", ALIASES, ids=str)
def test_an_alias_differs_in_element_types_only(key: tuple[str, int]) -> None:
    known = (key[0], ALIASES[key])
    assert meaning(SCHEMAS[key]) == meaning(SCHEMAS[known])
    get_converter(*known)


def test_every_entry_is_a_version_of_the_operator() -> None:
    assert CONVERTERS.keys() | ALIASES.keys() <= SCHEMAS.keys()
    assert not CONVERTERS.keys() & ALIASES.keys()


def test_no_version_of_a_known_operator_is_missing() -> None:
    """From opset 7 on, each version of an operator that has a converter has one."""
    known = {name for name, _ in CONVERTERS} | {name for name, _ in ALIASES}
    missing = set()
    for opset in range(7, NEWEST + 1):
        for name in known:
            versions = [v for n, v in SCHEMAS if n == name and v <= opset]
            if not versions or SCHEMAS[name, max(versions)].deprecated:
                continue
            try:
                find_converter("", name, opset)
            except CannotConvertError:
                missing.add((name, max(versions)))
    assert missing == set()


def test_every_attribute_is_read() -> None:
    """None is ignored for want of attention when an operator gets a new version."""
    shared = inspect.getsource(windows)
    unread = {
        (operator, name)
        for (operator, version), converter in CONVERTERS.items()
        for name in SCHEMAS[operator, version].attributes
        if operator != "Constant"
        and f'"{name}"' not in inspect.getsource(inspect.getmodule(converter)) + shared
    }
    assert unread == UNREAD.keys()


@pytest.mark.parametrize(
    ("domain", "operator", "opset", "reason"),
    [
        ("com.microsoft", "FusedConv", 17, "operators of the domain 'com.microsoft' have no"),
        ("", "NoSuchThing", 17, "is no ONNX operator of this opset"),
        ("", "Gelu", 17, "is no ONNX operator of this opset"),
        ("", "Hardmax", 17, "has no PyTorch counterpart"),
    ],
)
def test_what_is_unknown_is_refused(domain: str, operator: str, opset: int, reason: str) -> None:
    with pytest.raises(CannotConvertError, match=reason):
        find_converter(domain, operator, opset)
