"""Matrix products."""

import pytest
from converter_checks import check, normal


@pytest.mark.parametrize("opset", [7, 9, 11, 13])
@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("bias", [None, (3,), (1,), (), (5, 1), (5, 3), (1, 3)])
def test_gemm(opset: int, trans_a: int, trans_b: int, bias: tuple[int, ...] | None) -> None:
    if bias is None and opset < 11:
        return
    a = normal(4, 5) if trans_a else normal(5, 4)
    b = normal(3, 4, seed=1) if trans_b else normal(4, 3, seed=1)
    arrays = [a, b] + ([] if bias is None else [normal(*bias, seed=2)])
    for scales in ({}, {"alpha": 0.5, "beta": 2.0}):
        imported = check("Gemm", *arrays, opset=opset, transA=trans_a, transB=trans_b, **scales)
        assert "in1" in imported.bindings
    check("Gemm", *arrays, opset=opset, fed=(0, 1), transA=trans_a, transB=trans_b)


@pytest.mark.parametrize("opset", [7, 9, 13])
def test_matmul(opset: int) -> None:
    for left, right in [
        ((2, 3), (3, 4)),
        ((5, 2, 3), (3, 4)),
        ((5, 2, 3), (5, 3, 2)),
        ((3,), (3, 2)),
    ]:
        check("MatMul", normal(*left), normal(*right, seed=1), opset=opset)
        check("MatMul", normal(*left), normal(*right, seed=1), opset=opset, fed=(1,))


@pytest.mark.parametrize("equation", ["bij,bjk->bik", "bij,bkj", "bhwc,hkc->bhwk", "bij->bji"])
def test_einsum(equation: str) -> None:
    terms = equation.split("->")[0].split(",")
    shape = {"b": 2, "i": 3, "j": 4, "k": 5, "h": 2, "w": 3, "c": 4}
    arrays = [normal(*(shape[c] for c in term), seed=i) for i, term in enumerate(terms)]
    check("Einsum", *arrays, opset=12, equation=equation)


@pytest.mark.parametrize("opset", [16, 20])
@pytest.mark.parametrize("corners", [0, 1])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_grid_sample(opset: int, corners: int, padding: str) -> None:
    modes = ["bilinear", "nearest"] if opset == 16 else ["linear", "nearest"]
    grid = 0.9 * normal(2, 3, 4, 2, seed=1)
    for mode in modes:
        settings = {"mode": mode, "padding_mode": padding, "align_corners": corners}
        check("GridSample", normal(2, 3, 5, 6), grid, opset=opset, gradients=False, **settings)
