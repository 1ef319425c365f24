"""Operators that change the shape of a tensor, and Shape, which reads it."""

import numpy as np
import pytest
from rule_helpers import A, analyse

FOUR_TIMES_36 = np.repeat(A, 36).tolist()


def shape(*dims: int) -> np.ndarray:
    return np.array(dims, np.int64)


@pytest.mark.parametrize(
    ("body", "axis"),
    [("b = Transpose<perm = [0, 2, 3, 1]>(a)", 3), ("b = Transpose(a)", 2)],
)
def test_transpose(body: str, axis: int):
    assert analyse(body).axis("b") == (axis, A)


def test_flatten_repeats_each_channel_over_its_positions():
    assert analyse("b = Flatten(a)").axis("b") == (1, FOUR_TIMES_36)
    assert analyse("b = Flatten<axis = -3>(a)").axis("b") == (1, FOUR_TIMES_36)


def test_flatten_of_channels_that_come_last_repeats_the_whole_list():
    assert analyse("b = Flatten(a)", start="tokens").axis("b") == (1, A * 5)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (shape(-1, 144), (1, FOUR_TIMES_36)),
        (shape(0, -1), (1, FOUR_TIMES_36)),
        (shape(0, 4, -1), (1, A)),
        (shape(0, 0, 36), (1, A)),
        (shape(0, 1, 4, 36), (2, A)),
        (shape(0, 8, 18), (1, np.repeat(A, 2).tolist())),
    ],
)
def test_reshape(target: np.ndarray, expected: tuple[int, list[int]]):
    assert analyse("b = Reshape(a, s)", s=target).axis("b") == expected


def test_a_reshape_back_finds_the_channels_again():
    body = "b = Flatten(a) c = Reshape(b, s)"
    assert analyse(body, s=shape(-1, 4, 6, 6)).axis("c") == (1, A)


@pytest.mark.parametrize("opset", [11, 17])
def test_squeeze_and_unsqueeze(opset: int):
    more = {} if opset == 11 else {"k": shape(2, 3)}
    calls = ("<axes = [2, 3]>({})", "<axes = [2, 3]>({})") if opset == 11 else ("({}, k)",) * 2
    body = "p = GlobalMaxPool(a) b = Squeeze{} c = Unsqueeze{}"
    found = analyse(body.format(calls[0].format("p"), calls[1].format("b")), opset=opset, **more)
    assert (found.axis("b"), found.axis("c")) == ((1, A), (1, A))


@pytest.mark.parametrize(
    ("body", "more", "reason"),
    [
        ("b = Reshape(a, s)", {"inputs": "int64[2] s"}, "its shape is not a constant"),
        ("b = Reshape(a, s)", {"s": shape(-1, 6)}, "it changes the batch axis"),
        ("b = Reshape(a, s)", {"s": shape(-1)}, "it changes the batch axis"),
        ("b = Reshape(a, s)", {"s": shape(0, 2, 2, 36)}, "it spreads channels over several axes"),
        ("b = Reshape(a, s)", {"s": shape(0, 3, 48)}, "it spreads channels over several axes"),
        (
            "t = Transpose<perm = [1, 0, 2, 3]>(a) b = Flatten(t)",
            {},
            "it changes the batch axis",
        ),
    ],
)
def test_reshape_obstacles(body: str, more: dict[str, object], reason: str):
    found = analyse(body, **more)
    op = body.split("b = ")[1].split("(")[0]
    assert found.found() == [(op, reason)]
    assert "b" not in found.graph.values
    position = 2 if "perm" in body else 1
    assert found.reasons("a") == {f"read by {op} '{op.lower()}_{position}': {reason}"}


def test_unsqueeze_in_front_moves_the_channel_axis():
    assert analyse("b = Unsqueeze(a, s)", s=shape(0, -1)).axis("b") == (2, A)


def test_unsqueeze_and_squeeze_need_no_fixed_dimensions():
    body = "b = Unsqueeze(a, s) c = Squeeze(b, s)"
    found = analyse(body, start="free", s=shape(1))
    assert (found.axis("b"), found.axis("c")) == ((2, A), (1, A))


@pytest.mark.parametrize(
    ("heads", "place", "ids"),
    [
        (shape(0, 5, 2, 2), 2, [0, 1]),
        (shape(0, 5, 4, 1), 2, A),
        (shape(0, 0, 1, 2, 2), 3, [0, 1]),
        (shape(0, 0, 2, 2, 1), 3, [0, 1]),
    ],
)
def test_a_reshape_into_heads_ties_the_channels_of_each(
    heads: np.ndarray, place: int, ids: list[int]
):
    found = analyse("b = Reshape(a, s)", start="tokens", s=heads)
    assert found.axis("b") == (place, ids)
    repeats = 4 // len(ids)
    size = heads[-1]
    expected = np.repeat(ids, size) if size > 1 else np.tile(ids, repeats)
    assert found.axis("a") == (2, expected.tolist())


def test_dimensions_that_are_not_fixed():
    found = analyse("p = MaxPool<kernel_shape = [2, 2]>(a) b = Flatten(p)", start="free")
    assert found.found() == [("Flatten", "a dimension besides the batch is not fixed")]


def test_squeeze_of_whatever_has_length_one_could_take_the_channels():
    found = analyse("b = Squeeze(a)", start="fixed")
    assert found.found() == [("Squeeze", "it lists no axes")]


READ = "s = Shape(a) d = Gather(s, k)"


def test_shape_is_harmless_while_nobody_reads_the_channels():
    for body in (READ, "s = Shape(a) d = Slice(s, k, e)"):
        more = {"e": shape(4)} if "Slice" in body else {}
        found = analyse(body, k=shape(2) if more else shape(0, 2, -1), **more)
        assert found.found() == []
        assert found.reasons("a") == {None}


@pytest.mark.parametrize(
    ("body", "more", "reason"),
    [
        (READ, {"k": shape(0, 1)}, "its number of channels is read"),
        (READ, {"k": shape(-3)}, "its number of channels is read"),
        (
            "s = Shape(a) d = Slice(s, k, e)",
            {"k": shape(0), "e": shape(2)},
            "its number of channels is read",
        ),
        (READ, {"inputs": "int64[1] k"}, "the dimension that is read is not a constant"),
        ("s = Shape(a) d = Cast<to = 1>(s)", {}, "its number of channels may be read"),
        ("s = Shape<start = 2>(a)", {}, "its number of channels may be read"),
        ("s = Shape(a)", {"outputs": "int64[4] s"}, "its number of channels may be read"),
    ],
)
def test_shape_obstacles(body: str, more: dict[str, object], reason: str):
    found = analyse(body, **more)
    assert found.found() == [("Shape", reason)]
    assert found.reasons("a") == {f"read by Shape 'shape_1': {reason}"}
