"""The table of converters against the definitions of the operators."""

import onnx
import pytest
from onnx2torch.node_converters.registry import get_converter

from crespr_onnx.training.converters.node import CannotConvertError
from crespr_onnx.training.converters.table import ALIASES, CONVERTERS, find_converter

SCHEMAS = {
    (s.name, s.since_version): s for s in onnx.defs.get_all_schemas_with_history() if s.domain == ""
}
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
