"""Two models with one interface that compute the same, or not."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from crespr_onnx.errors import ModelError, UsageError, VerificationError
from crespr_onnx.graph.interface import check_same_interface
from crespr_onnx.graph.verify import verify


def net(
    scale: float = 1.0,
    body: str = "y = MatMul(h, w)",
    x: str = "float[batch,3] x",
    y: str = "float[batch,2] y",
    opset: int = 17,
) -> onnx.ModelProto:
    return onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["" : {opset}]>
        net ({x}) => ({y})
        <float[3,2] w = {{1, 2, 3, 4, 5, 6}}, float scale = {{{scale:.9f}}}>
        {{ h = Mul(x, scale)
           {body} }}""")


def test_a_model_equals_itself_in_every_form(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(net(), path)
    for other in (net(), ir.from_proto(net()), path):
        result = verify(path, other)
        assert result.passed
        assert (result.cases, result.max_abs_diff, result.max_rel_diff) == (3, 0.0, 0.0)
        result.require()


def test_the_difference_is_relative_to_the_largest_output() -> None:
    """With all outputs scaled by 1.001 the largest output is off by 0.001 of itself."""
    result = verify(net(), net(scale=1.001))
    assert result.max_rel_diff == pytest.approx(1e-3, rel=1e-3)
    assert not result.passed
    assert result.worst == "y"
    with pytest.raises(
        VerificationError,
        match=r"output 'y' differs by 0.001 relative .* at most 0.0001",
    ):
        result.require()
    assert verify(net(), net(scale=1.001), rtol=2e-3).passed


def test_real_inputs_are_compared_as_well() -> None:
    """Models that differ only above 50, which no random input reaches."""
    clipped = net(body="m = Constant <value = float {50}> ()\n c = Min(h, m)\n y = MatMul(c, w)")
    assert verify(net(), clipped).passed
    large = {"x": np.full((1, 3), 100, dtype=np.float32)}
    result = verify(net(), clipped, cases=2, inputs=[large])
    assert result.cases == 3
    assert result.max_abs_diff == 50 * (2 + 4 + 6)
    assert result.max_rel_diff == 0.5
    assert not result.passed


def test_both_batch_sizes_run() -> None:
    """A model that is right for a batch of 1 only."""
    first = net(
        body="i = Constant <value = int64[1] {0}> ()\n f = Gather(h, i)\n "
        "z = Sub(h, h)\n s = Add(z, f)\n y = MatMul(s, w)"
    )
    assert verify(net(), first, cases=1).passed
    assert not verify(net(), first, cases=2).passed


FROZEN = "s = Constant <value = int64[2] {1, 3}> ()\n r = Reshape(h, s)\n y = MatMul(r, w)"


def test_a_batch_that_the_reference_froze_is_left_out() -> None:
    assert verify(net(body=FROZEN), net(), cases=3).cases == 3


def test_a_batch_that_only_the_other_froze_fails() -> None:
    with pytest.raises(VerificationError, match=r"only the reference runs: .* inputs x \[3, 3\]"):
        verify(net(), net(body=FROZEN))


def test_random_inputs_depend_on_the_seed_alone() -> None:
    first, again, other = (verify(net(), net(scale=1.5), seed=s) for s in (1, 1, 2))
    assert first == again
    assert first.max_abs_diff != other.max_abs_diff


@pytest.mark.parametrize(
    ("other", "match"),
    [
        (net(y="float[batch,2] z", body="z = MatMul(h, w)"), "outputs differ: y in the ref.*, z"),
        (net(x="double[batch,3] x", y="double[batch,2] y"), "input 'x' differs in its element t"),
        (net(x="float[batch,3,3] x"), r"'x' differs in its rank: .*float32\[batch,3,3\]"),
        (net(x="float[batch,4] x"), "input 'x' differs in its shape"),
        (net(x="float[1,3] x"), r"'x' differs in its shape: x: float32\[batch,3\] in the ref"),
        (net(y="float[1,2] y"), "output 'y' differs in its shape"),
        (net(opset=18), "the opsets differ: 17 in the reference, 18 in the other model"),
    ],
)
def test_interfaces_that_differ(other: onnx.ModelProto, match: str) -> None:
    with pytest.raises(VerificationError, match=match):
        check_same_interface(ir.from_proto(net()), ir.from_proto(other))
    with pytest.raises(VerificationError, match=match):
        verify(net(), other)


def test_symbols_may_be_called_differently() -> None:
    assert verify(net(), net(x="float[N,3] x", y="float[M,2] y")).passed


def test_dynamic_axes_need_shapes() -> None:
    def moving() -> onnx.ModelProto:
        return net(x="float[batch,length,3] x", y="float[batch,length,2] y")

    with pytest.raises(UsageError, match=r"dynamic on axis 1 .* --input-shape x:1xNx3"):
        verify(moving(), moving())
    assert verify(moving(), moving(), input_shapes={"x": (1, 7, 3)}).passed


def test_a_reference_that_does_not_run() -> None:
    with pytest.raises(ModelError, match="cannot run the model on inputs"):
        verify(net(body=FROZEN.replace("1, 3", "2, 3")), net())


NAN = "n = Constant <value = float {-1}> ()\n l = Sqrt(n)\n "


@pytest.mark.parametrize(
    ("body", "same"),
    [(NAN + "y = Add(q, l)", True), ("y = Identity(q)", False)],
)
def test_nan_equals_nan_only(body: str, same: bool) -> None:
    q = "q = MatMul(h, w)\n "
    result = verify(net(body=q + NAN + "y = Add(q, l)"), net(body=q + body))
    assert result.passed is same
    assert result.max_rel_diff == (0.0 if same else math.inf)


@pytest.mark.parametrize(
    ("change", "passed"), [(lambda s: s, True), (lambda s: s.replace("{0}", "{1}"), False)]
)
def test_integer_outputs_must_be_equal(change: Callable[[str], str], passed: bool) -> None:
    body = (
        "o = Constant <value = int64 {0}> ()\n p = ArgMax <axis = 1, keepdims = 0> (h)\n "
        "y = Add(p, o)"
    )
    a, b = (net(y="int64[batch] y", body=text) for text in (body, change(body)))
    assert verify(a, b, rtol=10.0).passed is passed


def test_outputs_of_another_shape() -> None:
    turned = net(body="m = MatMul(h, w)\n y = Transpose(m)", y="float[a,b] y")
    with pytest.raises(VerificationError, match=r"'y' has shape \[2, 1\] where .* gives \[1, 2\]"):
        verify(net(y="float[a,b] y"), turned)
