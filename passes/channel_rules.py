"""How operators that keep channels apart compute parts of them; one rule per kind of operator."""

from collections.abc import Sequence

import onnx_ir as ir

from crespr_onnx.layout import DEPTHWISE
from crespr_onnx.passes.channel_parts import Parts, Rule, Sizes
from crespr_onnx.passes.channel_shape_rules import SHAPE_RULES
from crespr_onnx.passes.forms import Step
from crespr_onnx.passes.surgery import CLUSTERS, constant, input_at


def _same(parts: Parts, node: ir.Node, sizes: Sizes) -> Step[Sizes] | None:
    """Activations, pooling: one tensor in, other inputs are the same for all channels."""
    return parts.on_first_input(node, sizes)


def _dropout(parts: Parts, node: ir.Node, sizes: Sizes) -> Step[Sizes] | None:
    """Does nothing in inference mode; a random one must stay one draw."""
    mode = input_at(node, 2)
    flag = constant(mode)
    if mode is not None and (flag is None or flag.any()):
        return None
    return parts.on_first_input(node, sizes)


def _elementwise(parts: Parts, node: ir.Node, sizes: Sizes) -> Step[Sizes] | None:
    """Broadcasting operators: each input has all the channels, or the same for all of them."""
    rank, total = parts.rank_of(node.outputs[0]), sum(sizes)
    if rank is None:
        return None
    needs: list[tuple[ir.Value, Sizes]] = []
    sliced: dict[int, int] = {}
    whole: set[int] = set()
    for position, value in enumerate(node.inputs):
        dims = parts.dims_of(value)
        if value is None or dims is None:
            return None
        # Shapes are aligned from the right: this is where axis 1 of the output lies.
        axis = 1 - (rank - len(dims))
        if axis < 0 or dims[axis] == 1:
            whole.add(position)
        elif dims[axis] != total:
            return None
        elif constant(value) is not None:
            sliced[position] = axis
        elif axis == 1:
            needs.append((value, sizes))
        else:
            return None
    if not needs:
        return None

    def build(index: int, given: Sequence[ir.Value]) -> ir.Node:
        rest = iter(given)
        inputs = []
        for position, value in enumerate(node.inputs):
            if value is None or position in whole:
                inputs.append(value)
            elif position in sliced:
                inputs.append(parts.slice_constant(value, sliced[position], sizes, index))
            else:
                inputs.append(next(rest))
        return parts.copy(node, sizes, index, inputs)

    return Step(tuple(needs), build)


def _per_channel_parameters(parts: Parts, node: ir.Node, sizes: Sizes) -> Step[Sizes] | None:
    """BatchNormalization, InstanceNormalization: further inputs are vectors over the channels."""
    data, parameters = node.inputs[0], [v for v in node.inputs[1:] if v is not None]
    arrays = [constant(value) for value in parameters]
    if data is None or any(a is None or a.shape != (sum(sizes),) for a in arrays):
        return None
    if len(node.outputs) > 1 or node.attributes.get_int("training_mode", 0) != 0:
        return None

    def build(index: int, given: Sequence[ir.Value]) -> ir.Node:
        own = [parts.slice_constant(value, 0, sizes, index) for value in parameters]
        return parts.copy(node, sizes, index, [given[0], *own])

    return Step(((data, sizes),), build)


def _grouped_conv(parts: Parts, node: ir.Node, sizes: Sizes) -> Step[Sizes] | None:
    """A Conv whose own groups lie within the parts, such as a depthwise one.

    One that was split on purpose keeps the form that was chosen for it.
    """
    data, group = node.inputs[0], node.attributes.get_int("group", 1)
    weight, bias = constant(node.inputs[1]), input_at(node, 2)
    if data is None or weight is None or group == 1 or CLUSTERS in node.metadata_props:
        return None
    if weight.shape[0] != sum(sizes) or (bias is not None and constant(bias) is None):
        return None
    per_group = weight.shape[0] // group
    if any(size % per_group for size in sizes):
        return None
    needed = tuple(size // per_group * weight.shape[1] for size in sizes)

    def build(index: int, given: Sequence[ir.Value]) -> ir.Node:
        own = [parts.slice_constant(v, 0, sizes, index) for v in node.inputs[1:] if v is not None]
        groups = ir.AttrInt64("group", sizes[index] // per_group)
        attributes = {**node.attributes, "group": groups}
        made = parts.copy(node, sizes, index, [given[0], *own], attributes)
        if groups.as_int() == 1 and weight.shape[:2] == (group, 1):
            made.metadata_props[DEPTHWISE] = "1"
        return made

    return Step(((data, needed),), build)


UNARY = frozenset(
    [
        "Abs",
        "Cast",
        "Ceil",
        "Celu",
        "Clip",
        "Elu",
        "Erf",
        "Exp",
        "Floor",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "LeakyRelu",
        "Log",
        "Mish",
        "Neg",
        "Not",
        "Reciprocal",
        "Relu",
        "Round",
        "Selu",
        "Shrink",
        "Sigmoid",
        "Sign",
        "Softplus",
        "Softsign",
        "Sqrt",
        "Swish",
        "Tanh",
        "ThresholdedRelu",
    ]
)
"""Operators on each element of their first input; further inputs are the same for all of them."""

BROADCASTING = frozenset(
    [
        "Add",
        "And",
        "Div",
        "Equal",
        "Greater",
        "GreaterOrEqual",
        "Less",
        "LessOrEqual",
        "Max",
        "Mean",
        "Min",
        "Mod",
        "Mul",
        "Or",
        "PRelu",
        "Pow",
        "Sub",
        "Sum",
        "Where",
        "Xor",
    ]
)
"""Operators on elements of several inputs that are broadcast."""

CHANNEL_RULES: dict[str, Rule] = {
    **dict.fromkeys(UNARY, _same),
    **dict.fromkeys(BROADCASTING, _elementwise),
    "AveragePool": _same,
    "BatchNormalization": _per_channel_parameters,
    "Conv": _grouped_conv,
    "Dropout": _dropout,
    "GlobalAveragePool": _same,
    "GlobalLpPool": _same,
    "GlobalMaxPool": _same,
    "InstanceNormalization": _per_channel_parameters,
    "LpPool": _same,
    "MaxPool": _same,
    **SHAPE_RULES,
}
