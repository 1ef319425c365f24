"""Operators that treat every element alike, in all their versions."""

import numpy as np
import onnx
import pytest
from converter_checks import Array, check, normal, refusal

NEWEST = 24


def opsets_of(operator: str) -> list[int]:
    """One opset, from 7 on, for each version of an operator that ONNX Runtime knows."""
    versions = [
        s.since_version
        for s in onnx.defs.get_all_schemas_with_history()
        if s.name == operator and s.domain == ""
    ]
    oldest = max([v for v in versions if v <= 7], default=7)
    return sorted({max(7, v) for v in versions if oldest <= v <= NEWEST})


def cases(*operators: str) -> list[tuple[str, int]]:
    return [(operator, opset) for operator in operators for opset in opsets_of(operator)]


ANYWHERE = cases(
    "Abs", "Atan", "Ceil", "Cos", "Cosh", "Sinh", "Asinh", "Erf", "Exp", "Floor", "Identity", "Neg",
    "Relu", "Round", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Tan", "Tanh", "Mish",
    "HardSwish", "IsNaN", "IsInf",
)  # fmt: skip


@pytest.mark.parametrize(("operator", "opset"), ANYWHERE)
def test_functions_of_any_number(operator: str, opset: int) -> None:
    x = np.concatenate([normal(3, 4) * 3, [[0.0, 1.0, -1.0, 0.5]]]).astype(np.float32)
    check(operator, x, opset=opset)


@pytest.mark.parametrize(
    ("operator", "opset"), cases("Acos", "Asin", "Atanh", "Log", "Reciprocal", "Sqrt")
)
def test_functions_between_zero_and_one(operator: str, opset: int) -> None:
    x = np.linspace(0.05, 0.95, 12, dtype=np.float32).reshape(3, 4)
    check(operator, x, opset=opset)


@pytest.mark.parametrize("opset", opsets_of("Acosh"))
def test_acosh(opset: int) -> None:
    check("Acosh", np.linspace(1, 5, 6, dtype=np.float32), opset=opset)


WITH_SETTINGS: list[tuple[str, dict[str, float]]] = [
    ("Celu", {}), ("Celu", {"alpha": 0.3}), ("Elu", {}), ("Elu", {"alpha": 0.3}),
    ("HardSigmoid", {}), ("HardSigmoid", {"alpha": 0.3, "beta": 0.1}),
    ("LeakyRelu", {}), ("LeakyRelu", {"alpha": 0.2}),
    ("Selu", {}), ("Selu", {"alpha": 1.2, "gamma": 0.8}),
    ("Shrink", {}), ("Shrink", {"lambd": 0.2, "bias": 0.1}),
    ("ThresholdedRelu", {}), ("ThresholdedRelu", {"alpha": 0.2}),
]  # fmt: skip


@pytest.mark.parametrize(("operator", "settings"), WITH_SETTINGS)
def test_activations_with_settings(operator: str, settings: dict[str, float]) -> None:
    for opset in opsets_of(operator):
        check(operator, normal(3, 4), opset=opset, **settings)


@pytest.mark.parametrize("settings", [{}, {"approximate": "none"}, {"approximate": "tanh"}])
def test_gelu(settings: dict[str, str]) -> None:
    check("Gelu", normal(3, 4), opset=20, **settings)


@pytest.mark.parametrize("operator", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("settings", [{}, {"axis": 0}, {"axis": 1}, {"axis": -1}, {"axis": 2}])
def test_softmax(operator: str, settings: dict[str, int]) -> None:
    """Before opset 13 it flattens to a matrix."""
    for opset in (7, 11, 13, 21):
        if opset >= 11 or settings.get("axis") != -1:
            check(operator, normal(2, 3, 4), opset=opset, **settings)


@pytest.mark.parametrize(("operator", "opset"), cases("Add", "Sub", "Mul", "Div"))
def test_arithmetic_broadcasts(operator: str, opset: int) -> None:
    check(operator, normal(2, 3, 4), 1 + np.abs(normal(3, 1, seed=1)), opset=opset)


@pytest.mark.parametrize("opset", opsets_of("Div"))
def test_whole_numbers_divide_towards_zero(opset: int) -> None:
    check("Div", np.array([7, -7, 8], np.int64), np.array([2, 2, -3], np.int64), opset=opset)


@pytest.mark.parametrize("opset", opsets_of("Pow"))
def test_pow(opset: int) -> None:
    check("Pow", np.abs(normal(2, 3)), np.array([0.5, 2.0, 3.0], np.float32), opset=opset)


def test_pow_of_mixed_types() -> None:
    check("Pow", normal(2, 3), np.array(2, np.int64), opset=15)
    check("Pow", np.array([1, 2, 3]), np.array([4, 5, 6], np.float32), opset=15)


@pytest.mark.parametrize(("operator", "opset"), cases("Max", "Mean", "Min", "Sum"))
@pytest.mark.parametrize("count", [1, 2, 3])
def test_of_several(operator: str, opset: int, count: int) -> None:
    arrays = [normal(2, 3, seed=i) for i in range(count)]
    check(operator, *arrays, opset=opset, gradients=count > 1)


@pytest.mark.parametrize(
    ("operator", "opset"), cases("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
)
def test_comparisons(operator: str, opset: int) -> None:
    dtype = np.int64 if operator == "Equal" else np.float32
    x = np.array([[1, 2, 3], [3, 2, 1]], dtype)
    check(operator, x, np.array([2, 2, 2], dtype), opset=opset, gradients=False)


@pytest.mark.parametrize("operator", ["And", "Or", "Xor"])
def test_logic(operator: str) -> None:
    check(operator, np.array([True, False, True]), np.array([True, True, False]), opset=13)
    check("Not", np.array([True, False]), opset=13)


@pytest.mark.parametrize("operator", ["BitwiseAnd", "BitwiseOr", "BitwiseXor"])
def test_bits(operator: str) -> None:
    check(operator, np.array([12, 7], np.int32), np.array([10, 9], np.int32), opset=18)
    check("BitwiseNot", np.array([12, 7], np.int32), opset=18)


@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
def test_shifts(direction: str) -> None:
    x, by = np.array([200, 3], np.uint8), np.array([2, 1], np.uint8)
    check("BitShift", x, by, opset=13, direction=direction)


@pytest.mark.parametrize("kind", ["int64", "float32"])
@pytest.mark.parametrize("fmod", [0, 1])
def test_mod(kind: str, fmod: int) -> None:
    if kind == "float32" and not fmod:
        pytest.skip("ONNX Runtime wants fmod=1 for floats")
    x = np.array([7, -7, 7, -7], kind)
    check("Mod", x, np.array([3, 3, -3, -3], kind), opset=13, fmod=fmod)


BOUNDS = [(None, None), (-0.5, None), (None, 0.5), (-0.5, 0.5), (0.0, None), (0.0, 6.0)]


@pytest.mark.parametrize(("low", "high"), BOUNDS)
@pytest.mark.parametrize("opset", [7, 11, 12, 13])
def test_clip(low: float | None, high: float | None, opset: int) -> None:
    x = normal(3, 4) * 4
    if opset < 11:
        settings = {k: v for k, v in (("min", low), ("max", high)) if v is not None}
        check("Clip", x, opset=opset, **settings)
        return
    bounds = [None if b is None else np.array(b, np.float32) for b in (low, high)]
    check("Clip", x, *bounds, opset=opset)
    fed = [0, *(i for i, b in enumerate(bounds, start=1) if b is not None)]
    check("Clip", x, *bounds, opset=opset, fed=fed)
    check("Clip", x, *bounds, opset=opset, fed=fed[:2])


def test_clip_of_whole_numbers() -> None:
    check("Clip", np.arange(6), np.array(1), np.array(4), opset=13)


@pytest.mark.parametrize("opset", opsets_of("PRelu"))
@pytest.mark.parametrize("shape", [(1,), (3, 1, 1), (3, 4, 5)])
def test_prelu_trains_its_slope(opset: int, shape: tuple[int, ...]) -> None:
    imported = check("PRelu", normal(2, 3, 4, 5), normal(*shape, seed=1), opset=opset)
    assert ("in1" in imported.bindings) == (shape != (1,))


CASTS = [
    ("float32", "float16"), ("float32", "int64"), ("float32", "bool"), ("int32", "float32"),
    ("bool", "float32"), ("float64", "float32"), ("uint8", "int32"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after"), CASTS)
@pytest.mark.parametrize("opset", opsets_of("Cast"))
def test_cast(before: str, after: str, opset: int) -> None:
    x = np.array([0, 1, 2, 100], before)
    check("Cast", x, opset=opset, to=onnx.helper.np_dtype_to_tensor_dtype(np.dtype(after)))


def test_cast_like() -> None:
    check("CastLike", np.array([1, 2], np.int32), normal(2), opset=15, gradients=False)


def test_a_cast_to_text_is_refused() -> None:
    reason = refusal("Cast", normal(2), opset=13, to=onnx.TensorProto.STRING)
    assert reason == "a cast to STRING has no PyTorch counterpart"


@pytest.mark.parametrize("opset", [7, 10, 12, 13, 22])
def test_dropout_drops_nothing(opset: int) -> None:
    ratio: list[Array] = [np.array(0.5, np.float32)] if opset >= 12 else []
    x = normal(3, 4)
    check("Dropout", x, *ratio, opset=opset, **({} if ratio else {"ratio": 0.5}))
    check("Dropout", x, *ratio, *[np.array(False)] * len(ratio), opset=opset)
    if opset >= 10:
        check("Dropout", x, opset=opset, outputs=2)


def test_dropout_in_training_mode_is_refused() -> None:
    ratio, mode = np.array(0.5, np.float32), np.array(True)
    assert refusal("Dropout", normal(3), ratio, mode, opset=13) == "it is in training mode"


HALF = [
    ("Relu", 1), ("Clip", 1), ("LeakyRelu", 1), ("Sigmoid", 1), ("Softmax", 1), ("Add", 2),
    ("MatMul", 2), ("Gemm", 3), ("LayerNormalization", 3),
]  # fmt: skip


@pytest.mark.parametrize(("operator", "count"), HALF)
def test_half_precision(operator: str, count: int) -> None:
    arrays = [normal(3, 3, seed=i, dtype="float16") for i in range(count)]
    check(operator, *arrays, opset=17, tolerance=3e-3, gradients=False)


@pytest.mark.parametrize("signs", [(1, 0), (0, 1), (0, 0), (1, 1)])
@pytest.mark.parametrize("opset", opsets_of("IsInf"))
def test_infinities_of_one_sign(signs: tuple[int, int], opset: int) -> None:
    x = np.array([1, np.inf, -np.inf, np.nan], np.float32)
    check("IsInf", x, opset=opset, detect_positive=signs[0], detect_negative=signs[1])


@pytest.mark.parametrize("opset", opsets_of("Where"))
def test_where(opset: int) -> None:
    condition = np.array([[True, False, True]])
    check("Where", condition, normal(2, 3), normal(2, 1, seed=1), opset=opset)
