"""Compares the interfaces of two models."""

from collections.abc import Sequence

import onnx_ir as ir

from crespr_onnx.errors import VerificationError
from crespr_onnx.graph.signature import TensorSpec, signature_of


def check_same_interface(reference: ir.Model, other: ir.Model) -> None:
    """Compares opset, and names, element types and shapes of inputs and outputs, in order.

    All dynamic axes count as equal, whatever their symbols; a rank that a model does not declare is
    not compared.

    Raises:
        VerificationError: naming the first difference.
    """
    a, b = signature_of(reference), signature_of(other)
    _check_specs("input", a.inputs, b.inputs)
    _check_specs("output", a.outputs, b.outputs)
    ours, theirs = reference.opset_imports.get(""), other.opset_imports.get("")
    if ours != theirs:
        raise VerificationError(
            f"the opsets differ: {ours} in the reference, {theirs} in the other model"
        )


def _check_specs(role: str, ours: Sequence[TensorSpec], theirs: Sequence[TensorSpec]) -> None:
    names, others = [spec.name for spec in ours], [spec.name for spec in theirs]
    if names != others:
        raise VerificationError(
            f"the {role}s differ: {', '.join(names)} in the reference, {', '.join(others)} in the "
            "other model; names and order must be the same"
        )
    for spec, other in zip(ours, theirs, strict=True):
        difference = _spec_difference(spec, other)
        if difference:
            raise VerificationError(
                f"{role} {spec.name!r} differs in its {difference}: {spec} in the reference, "
                f"{other} in the other model"
            )


def _spec_difference(a: TensorSpec, b: TensorSpec) -> str | None:
    if a.dtype != b.dtype:
        return "element type"
    if a.dims is None or b.dims is None:
        return None
    if len(a.dims) != len(b.dims):
        return "rank"
    fixed_a, fixed_b = ([d if isinstance(d, int) else None for d in s.dims or ()] for s in (a, b))
    return None if fixed_a == fixed_b else "shape"
