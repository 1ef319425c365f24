"""auto_pad becomes pads where these are fixed; ONNX Runtime says whether they are right."""

import itertools

import onnx_ir as ir
import pytest
from pass_helpers import apply, normal, parse

from crespr_onnx.passes.explicit_pads import ExplicitPads

BOTH = ExplicitPads(modes=("SAME_LOWER", "SAME_UPPER"))
OPERATORS = {
    "Conv": "Conv<auto_pad = '{mode}', strides = {strides}>(x, w)",
    "MaxPool": "MaxPool<auto_pad = '{mode}', strides = {strides}, kernel_shape = {kernel}>(x)",
    "AveragePool": "AveragePool<auto_pad = '{mode}', strides = {strides}, "
    "kernel_shape = {kernel}, count_include_pad = 0>(x)",
}


def pads(model) -> dict[str, list[int] | str]:
    (node,) = model.graph.node
    found = {a.name: list(a.ints) or a.s.decode() for a in node.attribute}
    return {name: found[name] for name in ("pads", "auto_pad") if name in found}


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("mode", BOTH.modes)
@pytest.mark.parametrize(
    ("kernel", "strides"),
    list(itertools.product([(2, 3), (5, 2), (4, 4)], [(1, 2), (2, 1), (3, 3)])),
)
def test_outputs_stay_the_same(operator, mode, kernel, strides):
    call = OPERATORS[operator].replace("'", '"')
    call = call.format(mode=mode, strides=list(strides), kernel=list(kernel))
    before = parse(
        f"g (float[N, 2, 7, 10] x) => (float[N, 2, h, v] y) {{ y = {call} }}",
        **({"w": normal(0, 2, 2, *kernel)} if operator == "Conv" else {}),
    )
    assert list(pads(apply(BOTH, before))) == ["pads"]


@pytest.mark.parametrize(
    ("mode", "expected"), [("SAME_UPPER", [1, 0, 1, 1]), ("SAME_LOWER", [1, 1, 1, 0])]
)
def test_the_odd_one_goes_where_the_mode_says(mode, expected):
    """7 rows in steps of 2 give 4, which windows of 3 cover with 9; columns by windows of 2."""
    before = parse(
        "g (float[N, 2, 7, 10] x) => (float[N, 2, 4, 10] y) "
        f'{{ y = MaxPool<auto_pad = "{mode}", strides = [2, 1], kernel_shape = [3, 2]>(x) }}'
    )
    assert pads(apply(BOTH, before)) == {"pads": expected}


def test_a_stride_of_one_needs_no_size():
    before = parse(
        "g (float[N, 2, H, W] x) => (float[N, 2, H, W] y) "
        '{ y = MaxPool<auto_pad = "SAME_LOWER", kernel_shape = [4, 3]>(x) }'
    )
    model = ir.from_proto(before)
    assert ExplicitPads()(model).modified
    assert pads(ir.to_proto(model)) == {"pads": [2, 1, 1, 1]}


@pytest.mark.parametrize(
    "node",
    [
        'MaxPool<auto_pad = "SAME_LOWER", kernel_shape = [2, 2], strides = [2, 2]>(x)',
        'MaxPool<auto_pad = "SAME_UPPER", kernel_shape = [2, 2]>(x)',
        'MaxPool<auto_pad = "VALID", kernel_shape = [2, 2]>(x)',
        "MaxPool<pads = [1, 1, 1, 1], kernel_shape = [3, 3]>(x)",
        "Relu(x)",
    ],
)
def test_others_stay(node):
    before = parse(f"g (float[N, 2, H, W] x) => (float[N, 2, I, V] y) {{ y = {node} }}")
    model = ir.from_proto(before)
    assert not ExplicitPads()(model).modified
    assert ir.to_proto(model) == ir.to_proto(ir.from_proto(before))
