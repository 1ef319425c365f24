"""Weights that do not fit are refused by name; the ONNX checker takes all of these models."""

import onnx_ir as ir
import pytest
from pass_helpers import normal, parse

from crespr_onnx.errors import ModelError
from crespr_onnx.passes.check_operands import check_operands


def model(node: str, **shapes: tuple[int, ...]) -> ir.Model:
    arrays = {name: normal(0, *shape) for name, shape in shapes.items()}
    text = f"g (float[N, 4, 6, 6] x) => (float[N, c, h, v] y) {{ y = {node} }}"
    return ir.from_proto(parse(text, **arrays))


@pytest.mark.parametrize(
    ("node", "shapes"),
    [
        ("Conv(x, w)", {"w": (5, 4, 3, 3)}),
        ("Conv<group = 2>(x, w, b)", {"w": (6, 2, 3, 3), "b": (6,)}),
        ("ConvTranspose<group = 2>(x, w, b)", {"w": (4, 3, 3, 3), "b": (6,)}),
        ("BatchNormalization(x, a, b, c, d)", {"a": (4,), "b": (4,), "c": (4,), "d": (4,)}),
        ("InstanceNormalization(x, a, b)", {"a": (4,), "b": (4,)}),
        ("PRelu(x, w)", {"w": (4, 1, 1)}),
        ("PRelu(x, w)", {"w": (1,)}),
        ("Relu(x)", {}),
    ],
)
def test_takes_what_fits(node: str, shapes: dict[str, tuple[int, ...]]) -> None:
    check_operands(model(node, **shapes))


@pytest.mark.parametrize(
    ("node", "shapes", "match"),
    [
        (
            "Conv(x, w)",
            {"w": (5, 3, 3, 3)},
            r"node 'conv_0' \(Conv of opset 17\) cannot run: the second axis of its weight should "
            "be 4 and is 3; export the model again",
        ),
        (
            "Conv<group = 3>(x, w)",
            {"w": (6, 1, 3, 3)},
            "the rest of 4 input channels in 3 groups should be 0 and is 1",
        ),
        (
            "Conv<group = 2>(x, w)",
            {"w": (5, 2, 3, 3)},
            "the rest of its output channels in 2 groups should be 0 and is 1",
        ),
        (
            "Conv(x, w, b)",
            {"w": (5, 4, 3, 3), "b": (4,)},
            r"the shape of input 2 should be \(5,\) and is \(4,\)",
        ),
        (
            "ConvTranspose(x, w)",
            {"w": (3, 4, 3, 3)},
            "the first axis of its weight should be 4 and is 3",
        ),
        (
            "ConvTranspose<group = 2>(x, w, b)",
            {"w": (4, 3, 3, 3), "b": (3,)},
            r"the shape of input 2 should be \(6,\) and is \(3,\)",
        ),
    ],
)
def test_refuses_what_does_not(node: str, shapes: dict[str, tuple[int, ...]], match: str) -> None:
    with pytest.raises(ModelError, match=match):
        check_operands(model(node, **shapes))


def test_refuses_no_groups_and_wrong_parameters() -> None:
    broken = model("Conv(x, w)", w=(5, 4, 3, 3))
    broken.graph[0].attributes["group"] = ir.AttrInt64("group", 0)
    with pytest.raises(ModelError, match="the number of groups should be 1 and is 0"):
        check_operands(broken)
    broken = model("BatchNormalization(x, a, b, c, d)", a=(4,), b=(4,), c=(4,), d=(4,))
    broken.graph.initializers["c"].const_value = ir.tensor(normal(0, 5), name="c")
    with pytest.raises(ModelError, match=r"the shape of input 3 should be \(4,\) and is \(5,\)"):
        check_operands(broken)


@pytest.mark.parametrize("shape", [(8, 1, 1), (1, 1, 4, 6, 6), (5,)])
def test_refuses_a_slope_that_does_not_broadcast(shape: tuple[int, ...]) -> None:
    sound = model("PRelu(x, w)", w=(4, 1, 1))
    slope = sound.graph.initializers["w"]
    slope.const_value, slope.shape = ir.tensor(normal(0, *shape), name="w"), ir.Shape(shape)
    match = r"node 'prelu_0' \(PRelu of opset 17\) cannot run: its slope of shape \[.*\] does not"
    with pytest.raises(ModelError, match=match):
        check_operands(sound)


def gemm(node: str, **shapes: tuple[int, ...]) -> ir.Model:
    """Reads [N, 4]; the weight is put in afterwards, past what the checker notices."""
    text = f"g (float[N, 4] x) => (float[m, k] y) {{ y = {node} }}"
    built = ir.from_proto(parse(text, w=normal(0, 4, 4), b=normal(0, 4)))
    for name, shape in shapes.items():
        value = built.graph.initializers[name]
        value.const_value, value.shape = ir.tensor(normal(0, *shape), name=name), ir.Shape(shape)
    return built


@pytest.mark.parametrize(
    ("node", "shapes"),
    [
        ("Gemm(x, w, b)", {"w": (4, 7), "b": (7,)}),
        ("Gemm<transB = 1>(x, w, b)", {"w": (7, 4), "b": (1, 7)}),
        ("Gemm<transB = 1>(x, w, b)", {"w": (7, 4), "b": (1,)}),
        ("Gemm(w, x)", {"w": (4, 7)}),
    ],
)
def test_takes_a_gemm_that_fits(node: str, shapes: dict[str, tuple[int, ...]]) -> None:
    check_operands(gemm(node, **shapes))


@pytest.mark.parametrize(
    ("node", "shapes", "match"),
    [
        ("Gemm(x, w, b)", {"w": (5, 4)}, r"axis 0 of its weight should be 4 and is 5"),
        ("Gemm<transB = 1>(x, w, b)", {"w": (4, 5)}, r"axis 1 of its weight should be 4 and is 5"),
        ("Gemm(x, w, b)", {"b": (3,)}, r"the length of its bias should be 4 and is 3"),
        ("Gemm(x, w, b)", {"w": (4, 4, 1)}, r"the rank of its weight should be 2 and is 3"),
    ],
)
def test_refuses_a_gemm_that_does_not(
    node: str, shapes: dict[str, tuple[int, ...]], match: str
) -> None:
    with pytest.raises(ModelError, match=r"node 'gemm_0' \(Gemm of opset 17\) .*" + match):
        check_operands(gemm(node, **shapes))
