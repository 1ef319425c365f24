"""Concat, Split, Slice, Pad and Gather."""

import numpy as np
import pytest
from rule_helpers import A, analyse

from crespr_onnx.layout import ZERO

B = "b = Conv(x, wb)"
INT_MIN = np.iinfo(np.int64).min


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


# ---- Concat


@pytest.mark.parametrize("axis", [1, -3])
def test_concat_joins_channels(axis: int):
    found = analyse(f"{B} c = Concat<axis = {axis}>(a, b, a)", wb=(2, 3, 1, 1))
    assert found.axis("c") == (1, [*A, 4, 5, *A])


def test_concat_on_another_axis_ties_channels():
    found = analyse(f"{B} c = Concat<axis = 3>(a, b)", wb=(4, 3, 1, 1))
    assert found.axis("b") == found.axis("c") == (1, A)


@pytest.mark.parametrize(
    ("body", "more", "reason"),
    [
        ("c = Concat<axis = 1>(a, x)", {}, "input 1 has no known channel axis"),
        ("c = Concat<axis = 1>(a, k)", {"k": (1, 4, 6, 6)}, "input 1 has no known channel axis"),
        (
            f"{B} t = Transpose<perm = [0, 2, 1, 3]>(b) c = Concat<axis = 1>(b, t)",
            {"wb": (6, 3, 1, 1)},
            "its inputs carry channels on different axes",
        ),
    ],
)
def test_concat_obstacles(body: str, more: dict[str, object], reason: str):
    assert analyse(body, **more).found() == [("Concat", reason)]


# ---- Split


@pytest.mark.parametrize(
    ("opset", "body"),
    [
        (17, "b, c = Split<axis = 1>(a, k)"),
        (17, "b, c = Split<axis = -3>(a, k)"),
        (12, "k0 = Identity(k) b, c = Split<axis = 1, split = [1, 3]>(a)"),
    ],
)
def test_split_deals_channels_out(opset: int, body: str):
    found = analyse(body, opset=opset, k=ints(1, 3))
    assert (found.axis("b"), found.axis("c")) == ((1, [0]), (1, [1, 2, 3]))
    move = found.graph.moves["c"]
    assert (move.source, move.positions.tolist()) == ("a", [1, 2, 3])


@pytest.mark.parametrize(("opset", "setting"), [(13, ""), (18, ", num_outputs = 2")])
def test_split_in_equal_parts(opset: int, setting: str):
    found = analyse(f"b, c = Split<axis = 1{setting}>(a)", opset=opset)
    assert (found.axis("b"), found.axis("c")) == ((1, [0, 1]), (1, [2, 3]))


def test_split_of_another_axis_passes_channels_on():
    found = analyse("b, c = Split<axis = 2>(a)")
    assert found.axis("b") == found.axis("c") == (1, A)
    assert not found.graph.moves


def test_split_by_sizes_that_the_caller_gives():
    found = analyse("b, c = Split<axis = 1>(a, k)", inputs="int64[2] k")
    assert found.found() == [("Split", "the shape of 'b' is unknown")]


def test_split_by_sizes_that_are_not_known():
    found = analyse(
        "b, c = Split<axis = 1>(a, k)",
        inputs="int64[2] k",
        outputs="float[N, B, 6, 6] b, float[N, C, 6, 6] c",
    )
    assert found.found() == [("Split", "its sizes are not known")]


# ---- Slice


@pytest.mark.parametrize(
    ("bounds", "taken"),
    [
        ((1, 3), [1, 2]),
        ((-2, 99), [2, 3]),
        ((-99, 2), [0, 1]),
        ((0, 4, 2), [0, 2]),
        ((-1, INT_MIN, -1), [3, 2, 1, 0]),
        ((2, 0, -1), [2, 1]),
    ],
)
def test_slice_takes_channels(bounds: tuple[int, ...], taken: list[int]):
    more = {name: ints(v) for name, v in zip(("s", "e", "t"), bounds, strict=False)}
    found = analyse(f"b = Slice(a, s, e, k{', t' if 't' in more else ''})", k=ints(-3), **more)
    assert found.axis("b") == (1, taken)
    assert found.graph.moves["b"].positions.tolist() == taken


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("b = Slice<starts = [1], ends = [3], axes = [1]>(a)", [1, 2]),
        ("b = Slice<starts = [1], ends = [3], axes = [2]>(a)", A),
        ("b = Slice<starts = [0], ends = [1]>(a)", A),  # the first axes, that is the batch
    ],
)
def test_slice_by_attributes(body: str, expected: list[int]):
    assert analyse(body, opset=9).axis("b") == (1, expected)


SLICE = "b = Slice(a, s, e, k, t)"
BOUNDS = {"s": ints(0), "e": ints(2), "k": ints(1), "t": ints(1)}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("s", "where it starts is not a constant"),
        ("e", "where it ends is not a constant"),
        ("k", "the list of axes is not a constant"),
        ("t", "the step is not a constant"),
    ],
)
def test_slice_by_bounds_that_the_caller_gives(name: str, reason: str):
    found = analyse(SLICE, inputs=f"int64[1] {name}", **BOUNDS)
    assert found.found() == [("Slice", reason)]


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (
            {"s": ints(0, 0), "e": ints(2, 2), "k": ints(1, 2), "t": ints(1, 1)},
            "it works on the channels and on another axis at once",
        ),
        ({"s": ints(3), "e": ints(3)}, "it takes no channels"),
    ],
)
def test_slice_obstacles(more: dict[str, np.ndarray], reason: str):
    assert analyse(SLICE, **(BOUNDS | more)).found() == [("Slice", reason)]


# ---- Pad


@pytest.mark.parametrize("opset", [10, 17, 18])
def test_pad_adds_channels_of_zeros(opset: int):
    pads = [0, 1, 0, 0, 0, 2, 0, 0]
    call = f"k0 = Identity(k) b = Pad<pads = {pads}>(a)" if opset == 10 else "b = Pad(a, k, z)"
    more = {} if opset == 10 else {"z": np.float32(0)}
    found = analyse(call, opset=opset, k=ints(*pads), **more)
    assert found.axis("b") == (1, [4, *A, 5, 6])
    assert found.graph.moves["b"].positions.tolist() == [ZERO, *A, ZERO, ZERO]


def test_pad_of_other_axes_passes_channels_on():
    body = """b = Pad<mode = "reflect">(a, k)"""
    assert analyse(body, k=ints(0, 0, 1, 1, 0, 0, 1, 1)).axis("b") == (1, A)


MORE = ints(0, 0, 0, 0, 0, 1, 0, 0)


@pytest.mark.parametrize(
    ("body", "more", "reason"),
    [
        ("b = Pad(a, k)", {"inputs": "int64[8] k"}, "its amount is not a constant"),
        (
            "b = Pad(a, k, , e)",
            {"k": ints(1, 1), "e": ints(2), "opset": 18},
            "it lists its axes",
        ),
        (
            "b = Pad(a, k)",
            {"k": ints(0, 1, 1, 0, 0, 0, 0, 0)},
            "it works on the channels and on another axis at once",
        ),
        (
            "b = Pad(a, k, v)",
            {"k": MORE, "v": np.float32(1)},
            "it pads the channels with something else than zeros",
        ),
        (
            "b = Pad<pads = [0, 0, 0, 0, 0, 1, 0, 0], value = 1.0>(a)",
            {"opset": 10},
            "it pads the channels with something else than zeros",
        ),
        (
            """b = Pad<mode = "edge">(a, k)""",
            {"k": MORE},
            "it pads the channels with something else than zeros",
        ),
        ("b = Pad(a, k, v)", {"k": MORE, "inputs": "float v"}, "its value is not a constant"),
        ("b = Pad(a, k)", {"k": -MORE}, "it cuts channels off"),
    ],
)
def test_pad_obstacles(body: str, more: dict[str, object], reason: str):
    assert analyse(body, **more).found() == [("Pad", reason)]


# ---- Gather


@pytest.mark.parametrize("axis", [1, -3])
def test_gather_picks_channels(axis: int):
    found = analyse(f"b = Gather<axis = {axis}>(a, k)", k=ints(3, 0, -1, 1))
    assert found.axis("b") == (1, [3, 0, 3, 1])
    assert found.graph.moves["b"].positions.tolist() == [3, 0, 3, 1]


def test_gather_of_another_axis_passes_channels_on():
    assert analyse("b = Gather<axis = 2>(a, k)", k=ints(5, 0)).axis("b") == (1, A)


def test_gather_from_values_without_channels_makes_new_ones():
    found = analyse("b = Gather<axis = 1>(x, k)", k=ints(2, 0))
    assert found.axis("b") == (1, [4, 5])
    assert found.constant("k") == {0: [4, 5]}
    assert found.reasons("b") == {None}


@pytest.mark.parametrize(
    ("start", "over", "index", "axis"),
    [
        ("conv", 2, ints(1)[0], 1),
        ("tokens", 1, ints(1)[0], 1),
        ("tokens", 1, np.zeros((2, 3), np.int64), 3),
        ("tokens", 1, ints(1, 0), 2),
    ],
)
def test_gather_on_another_axis_moves_the_channel_axis(
    start: str, over: int, index: np.ndarray, axis: int
):
    found = analyse(f"b = Gather<axis = {over}>(a, k)", start=start, k=index)
    assert found.axis("b") == (axis, A)
    assert found.found() == []


def test_gather_looks_vectors_up_in_a_table():
    found = analyse("b = Gather(t, k)", inputs="int64[N, 7] k", t=(10, 5))
    assert found.axis("b") == (2, [4, 5, 6, 7, 8])
    assert found.constant("t") == {1: [4, 5, 6, 7, 8]}


def test_slice_may_list_axes_that_it_leaves_alone():
    begins, ends = np.array([0, 0, 1]), np.array([2**31 - 1, 4, 5])
    found = analyse("b = Slice(a, s, e, k)", s=begins, e=ends, k=ints(0, 1, 2))
    assert (found.axis("b"), found.found()) == ((1, A), [])


@pytest.mark.parametrize(
    ("body", "more", "reason"),
    [
        ("b = Gather<axis = 1>(a, k)", {"inputs": "int64[2] k"}, "its list is not a constant"),
        ("b = Gather<axis = 1>(a, k)", {"k": ints(1)[0]}, "it does not pick a list of channels"),
        (
            "b = Gather<axis = 1>(a, k)",
            {"k": np.zeros((2, 2), np.int64)},
            "it does not pick a list of channels",
        ),
    ],
)
def test_gather_obstacles(body: str, more: dict[str, object], reason: str):
    found = analyse(body, **more)
    assert found.found() == [("Gather", reason)]
    assert found.reasons("a") == {f"read by Gather 'gather_1': {reason}"}
