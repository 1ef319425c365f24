"""Passes that write what exporters compute at run time in a form that the analysis follows."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from pass_helpers import apply, initializers, nodes, normal, parse, text

from crespr_onnx.passes.fix_reshape_targets import FixReshapeTargets
from crespr_onnx.passes.fix_sizes import FixSizes
from crespr_onnx.passes.fold_weight_views import FoldWeightViews
from crespr_onnx.passes.resize_in_space import ResizeInSpace
from crespr_onnx.passes.shuffle_to_gather import ShuffleToGather


@pytest.mark.parametrize(
    ("target", "result", "expected"),
    [
        ("n, k", "float[N, 4, 6] y", [0, 4, 6]),
        ("n, k", "float[N, A, B] y", [0, 4, 6]),
        ("k, n", "float[A, B, N] y", [4, 6, -1]),
    ],
)
def test_computed_target_of_a_reshape(target: str, result: str, expected: list[int]):
    before = parse(
        f"""g (float[N, 24] x) => ({result}) {{
            s = Shape(x)
            n = Gather(s, zero)
            t = Concat<axis = 0>({target})
            y = Reshape(x, t)
        }}""",
        zero=np.array([0]),
        k=np.array([4, 6]),
    )
    after = apply(FixReshapeTargets(), before)
    assert nodes(after) == ["y = Reshape(x, reshape_3/shape)"]
    (array,) = initializers(after).values()
    assert array.tolist() == expected


def test_sizes_that_move_keep_their_target():
    before = parse(
        """g (float[N, 6, H, W] x) => (float[A, B, C, D, E] y) {
            s = Shape(x)
            n = Slice(s, zero, one)
            c = Gather(s, one)
            half = Div(c, two)
            twice = Unsqueeze(k, zero)
            rest = Slice(s, two, end)
            t = Concat<axis = 0>(n, twice, half, rest)
            y = Reshape(x, t)
        }""",
        zero=np.array([0]),
        one=np.array([1]),
        two=np.array([2]),
        end=np.array([4]),
        k=np.array(2),
    )
    model = ir.from_proto(before)
    assert not FixReshapeTargets()(model).modified


def test_sizes_that_stay_are_copied():
    flat = parse(
        """g (float[N, 6, H, W] x) => (float[A, B, C] y) {
            s = Shape(x)
            front = Slice(s, zero, two)
            t = Concat<axis = 0>(front, rest)
            y = Reshape(x, t)
        }""",
        zero=np.array([0]),
        two=np.array([2]),
        rest=np.array([-1]),
    )
    model = ir.from_proto(flat)
    assert FixReshapeTargets()(model).modified
    after = ir.to_proto(model)
    assert nodes(after) == ["y = Reshape(x, reshape_3/shape)"]
    assert initializers(after)["reshape_3/shape"].tolist() == [0, 6, -1]


@pytest.mark.parametrize(
    ("operator", "expected"), [("Add", 8), ("Sub", 4), ("Mul", 12), ("Div", 3)]
)
def test_arithmetic_of_sizes(operator: str, expected: int):
    before = parse(
        f"""g (float[N, 6, 4] x) => (float[A, B] y) {{
            s = Shape(x) c = Gather(s, one) d = {operator}(c, two)
            t = Concat<axis = 0>(rest, d) y = Reshape(x, t)
        }}""",
        one=np.array([1]),
        two=np.array([2]),
        rest=np.array([-1]),
    )
    after = apply(FixReshapeTargets(), before)
    assert initializers(after)["reshape_4/shape"].tolist() == [-1, expected]


def test_bounds_that_follow_from_fixed_dimensions():
    before = parse(
        """g (float[N, 6, H] x) => (float[A, B, C] y, float[D, E, F] z) {
            s = Shape(x) c = Gather(s, one) d = Add(c, one) half = Div(d, two)
            y = Slice(x, zero, half, one)
            h = Gather(s, two) rest = Div(h, two)
            z = Slice(x, zero, rest, two)
        }""",
        zero=np.array([0]),
        one=np.array([1]),
        two=np.array([2]),
    )
    after = apply(FixSizes(), before)
    assert nodes(after) == text(
        """s = Shape(x)
        y = Slice(x, zero, slice_4/input_2, one)
        h = Gather(s, two)
        rest = Div(h, two)
        z = Slice(x, zero, rest, two)"""
    )
    assert initializers(after)["slice_4/input_2"].tolist() == [3]


def test_reshapes_that_are_not_known_keep_their_target():
    before = parse(
        """g (float[N, H, 4] x) => (float[A, B] y) {
            s = Shape(x)
            n = Gather(s, two)
            t = Concat<axis = 0>(n, rest)
            y = Reshape(x, t)
        }""",
        two=np.array([1]),
        rest=np.array([-1]),
    )
    apply(FixReshapeTargets(), before, modified=False)


def test_a_constant_target_stays():
    before = parse(
        "g (float[N, 24] x) => (float[N, 4, 6] y) { y = Reshape(x, t) }", t=np.array([0, 4, 6])
    )
    apply(FixReshapeTargets(), before, modified=False)


@pytest.mark.parametrize(
    ("view", "shape"),
    [
        ("Reshape(w, t)", (1, 4, 1, 1)),
        ("Unsqueeze(w, k)", (1, 4, 1)),
        ("Identity(w)", (4,)),
        ("Transpose<perm = [0]>(w)", (4,)),
    ],
)
def test_a_rearranged_weight_is_stored_that_way(view: str, shape: tuple[int, ...]):
    weight = normal(0, 4)
    before = parse(
        f"g (float[N, 4, 4, 4] x) => (float[N, 4, 4, 4] y) {{ v = {view} y = Add(x, v) }}",
        w=weight,
        **{
            k: a
            for k, a in {"t": np.array([1, 4, 1, 1]), "k": np.array([0, 2])}.items()
            if f"{k})" in view
        },
    )
    after = apply(FoldWeightViews(), before)
    assert nodes(after) == ["y = Add(x, v)"]
    np.testing.assert_array_equal(initializers(after)["v"], weight.reshape(shape))
    assert "w" not in initializers(after)


def test_a_matrix_is_transposed():
    before = parse(
        "g (float[N, 4] x) => (float[N, 3] y) { v = Transpose(w) y = MatMul(x, v) }",
        w=normal(0, 3, 4),
    )
    after = apply(FoldWeightViews(), before)
    np.testing.assert_array_equal(initializers(after)["v"], normal(0, 3, 4).T)


@pytest.mark.parametrize(
    "body",
    [
        "v = Transpose(w) y = MatMul(x, v) z = MatMul(y, w)",
        "v = Transpose(x) y = MatMul(x, v) z = Add(y, y)",
        "v = Neg(w) y = Gemm<transB = 1>(x, v) z = Relu(y)",
    ],
)
def test_what_others_read_or_compute_stays(body: str):
    arrays = {"w": normal(0, 3, 4)} if "w" in body else {}
    before = parse(f"g (float[3, 4] x) => (float[A, B] z) {{ {body} }}", **arrays)
    if "Add" in body:
        before = parse(f"g (float[4, 4] x) => (float[A, B] z) {{ {body} }}")
    model = ir.from_proto(before)
    assert not FoldWeightViews()(model).modified
    assert nodes(ir.to_proto(model)) == nodes(before)


def shuffle(groups: int, perm: str = "[0, 2, 1, 3, 4]", back: tuple[int, ...] = (0, 6, 5, 5)):
    """A channel shuffle of 6 channels on 5 x 5."""
    return parse(
        f"""g (float[N, 6, 5, 5] x) => (float[N, A, B, C] y) {{
            a = Relu(x)
            b = Reshape(a, cut)
            c = Transpose<perm = {perm}>(b)
            d = Reshape(c, back)
            y = Relu(d)
        }}""",
        cut=np.array([0, groups, 6 // groups, 5, 5]),
        back=np.array(back),
    )


@pytest.mark.parametrize(
    ("groups", "order"), [(2, [0, 3, 1, 4, 2, 5]), (3, [0, 2, 4, 1, 3, 5]), (1, [0, 1, 2, 3, 4, 5])]
)
def test_a_shuffle_becomes_a_gather(groups: int, order: list[int]):
    after = apply(ShuffleToGather(), shuffle(groups))
    assert nodes(after) == text(
        """a = Relu(x)
        d = Gather(a, reshape_1/shuffle)
        y = Relu(d)"""
    )
    assert initializers(after)["reshape_1/shuffle"].tolist() == order


@pytest.mark.parametrize(
    "model",
    [
        shuffle(2, "[0, 1, 2, 4, 3]"),
        shuffle(2, "[0, 2, 1, 4, 3]"),
        shuffle(2, back=(0, 3, 10, 5)),
        shuffle(2, back=(0, 6, 25, 1)),
    ],
)
def test_other_rearrangements_are_no_shuffle(model: onnx.ModelProto):
    apply(ShuffleToGather(), model, modified=False)


def resize(opset: int, size: int, mode: str = "nearest") -> onnx.ModelProto:
    """A Resize of 4 x 4 to sizes whose batch and channels are read at run time."""
    return parse(
        f"""g (float[N, 3, 4, 4] x) => (float[N, C, H, W] y) {{
            s = Shape(x)
            front = Slice(s, zero, two)
            sizes = Concat<axis = 0>(front, space)
            y = Resize<mode = "{mode}">(x, , , sizes)
        }}""",
        opset,
        zero=np.array([0]),
        two=np.array([2]),
        space=np.array([size, size]),
    )


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("size", [8, 7, 2])
def test_sizes_become_those_of_space(size: int, mode: str):
    after = apply(ResizeInSpace(), resize(18, size, mode))
    assert nodes(after) == ["y = Resize(x, , , resize_3/sizes)"]
    assert initializers(after)["resize_3/sizes"].tolist() == [size, size]


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("size", [8, 7, 2])
def test_sizes_become_scales_before_axes_can_be_listed(size: int, mode: str):
    after = apply(ResizeInSpace(), resize(13, size, mode))
    assert nodes(after) == ["y = Resize(x, , resize_3/scales)"]
    assert initializers(after)["resize_3/scales"].tolist() == [1, 1, size / 4, size / 4]


def test_scales_that_would_give_another_size_are_not_used():
    # 49 / 41 in single precision, times 41, is just below 49.
    before = parse(
        """g (float[N, 3, 41, 41] x) => (float[N, C, H, W] y) {
            s = Shape(x) front = Slice(s, zero, two)
            sizes = Concat<axis = 0>(front, space)
            y = Resize<mode = "nearest">(x, , , sizes)
        }""",
        13,
        zero=np.array([0]),
        two=np.array([2]),
        space=np.array([AWKWARD, AWKWARD]),
    )
    apply(ResizeInSpace(), before, modified=False)


AWKWARD = next(n for n in range(42, 400) if int(41 * np.float32(n / 41)) != n)


def test_unknown_sizes_stay():
    before = parse(
        """g (float[N, 3, H, W] x, float[N, 3, A, B] z) => (float[N, C, E, F] y) {
            sizes = Shape(z)
            y = Resize<mode = "nearest">(x, , , sizes)
        }"""
    )
    model = ir.from_proto(before)
    assert not ResizeInSpace()(model).modified
