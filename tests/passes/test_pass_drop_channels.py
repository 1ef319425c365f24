"""Dropped channels leave every tensor that carries them."""

import numpy as np
import pytest
from layout_helpers import attribute, channels_of, equal, layout_of, masked, reordered, shapes
from pass_helpers import initializers, nodes, normal, parse, properties

from crespr_onnx.layout import dense_layout
from crespr_onnx.passes.drop_channels import DropChannels


def dropped(before, *, modified: bool = True, **labels):
    """The model before and after channels with label -1 are dropped; weights on them are zeroed."""
    graph = channels_of(before)
    layout = layout_of(graph, **labels)
    before = masked(before, graph, layout)
    return before, reordered(DropChannels(graph, layout), before, modified=modified)


def test_conv_bias_and_batch_normalization():
    before, after = dropped(
        parse(
            """g (float[N, 3, 5, 5] x) => (float[N, 2, 5, 5] y) {
                a = Conv(x, w, k) b = BatchNormalization(a, s, s, m, v) r = Relu(b) y = Conv(r, u)
            }""",
            w=normal(0, 4, 3, 1, 1), k=normal(1, 4), s=normal(2, 4), m=normal(3, 4),
            v=normal(4, 4) ** 2, u=normal(5, 2, 4, 1, 1),
        ),
        a=[0, -1, 0, -1],
    )  # fmt: skip
    old, new = initializers(before), initializers(after)
    assert nodes(after) == nodes(before)
    assert all(equal(new[name], old[name][[0, 2]]) for name in "wksmv")
    assert equal(new["u"], old["u"][:, [0, 2]])
    value = {v.name: v.type.tensor_type.shape for v in after.graph.value_info}["r"]
    assert [d.dim_value for d in value.dim[1:]] == [2, 5, 5]


def test_gemm_transposed_or_not_and_matmul():
    before, after = dropped(
        parse(
            """g (float[N, 3] x) => (float[N, 2] y) {
                a = Gemm<transB = 1>(x, w, k) b = MatMul(a, v) c = Add(b, j) y = Gemm(c, u)
            }""",
            w=normal(0, 4, 3), k=normal(1, 1, 4), v=normal(2, 4, 5), j=normal(3, 5),
            u=normal(4, 5, 2),
        ),
        a=[0, 0, -1, -1],
        b=[-1, 0, 0, 0, -1],
    )  # fmt: skip
    assert shapes(after) == {"w": (2, 3), "k": (1, 2), "v": (2, 3), "j": (3,), "u": (3, 2)}
    assert equal(initializers(after)["v"], initializers(before)["v"][:2, 1:4])


DEPTHWISE = """
    g (float[N, 3, 5, 5] x) => (float[N, 2, 5, 5] y) {
        a = Conv(x, w) d = Conv<group = 4, pads = [1, 1, 1, 1]>(a, k, j) y = Conv(d, u)
    }"""


@pytest.mark.parametrize(
    ("labels", "mark"), [([0, -1, 0, 0], {}), ([-1, -1, 0, -1], {"crespr.depthwise": "1"})]
)
def test_depthwise_conv(labels: list[int], mark: dict[str, str]):
    _, after = dropped(
        parse(
            DEPTHWISE,
            w=normal(0, 4, 3, 1, 1), k=normal(1, 4, 1, 3, 3), j=normal(2, 4),
            u=normal(3, 2, 4, 1, 1),
        ),
        a=labels,
    )  # fmt: skip
    n = labels.count(0)
    assert attribute(after, "conv_1", "group") == n
    assert shapes(after) == {"w": (n, 3, 1, 1), "k": (n, 1, 3, 3), "j": (n,), "u": (2, n, 1, 1)}
    # Of one channel it must still count as depthwise, and not as a layer of nine weights.
    assert properties(after, ["conv_1"]) == [mark]
    again = channels_of(after)
    assert [e.name for e in again.edges] == ["conv_0", "conv_2"]
    assert again.weights == 5 * n


def test_residual_add():
    _, after = dropped(
        parse(
            """g (float[N, 3, 5, 5] x) => (float[N, 2, 5, 5] y) {
                a = Conv(x, w) b = Conv(a, v) c = Add(a, b) y = Conv(c, u)
            }""",
            w=normal(0, 4, 3, 1, 1), v=normal(1, 4, 4, 1, 1), u=normal(2, 2, 4, 1, 1),
        ),
        a=[-1, 0, 0, 0],
    )  # fmt: skip
    assert shapes(after) == {"w": (3, 3, 1, 1), "v": (3, 3, 1, 1), "u": (2, 3, 1, 1)}


def test_concat():
    before, after = dropped(
        parse(
            """g (float[N, 3, 5, 5] x) => (float[N, 2, 5, 5] y) {
                a = Conv(x, w) b = Conv(x, v) c = Concat<axis = 1>(a, b) y = Conv(c, u)
            }""",
            w=normal(0, 4, 3, 1, 1), v=normal(1, 3, 3, 1, 1), u=normal(2, 2, 7, 1, 1),
        ),
        a=[-1, 0, 0, -1],
        b=[0, -1, 0],
    )  # fmt: skip
    assert nodes(after) == nodes(before)
    assert equal(initializers(after)["u"], initializers(before)["u"][:, [1, 2, 4, 6]])


@pytest.mark.parametrize(
    ("call", "target"),
    [("Flatten(a)", None), ("Reshape(a, s)", [-1, 100]), ("Reshape(a, s)", [0, -1])],
)
def test_flattening_repeats_channels_over_their_positions(call: str, target: list[int] | None):
    arrays = {} if target is None else {"s": np.array(target)}
    before, after = dropped(
        parse(
            f"""g (float[N, 3, 5, 5] x) => (float[N, 2] y) {{
                a = Conv(x, w) f = {call} y = Gemm(f, u)
            }}""",
            w=normal(0, 4, 3, 1, 1), u=normal(2, 100, 2), **arrays,
        ),
        a=[0, -1, -1, 0],
    )  # fmt: skip
    kept = [*range(25), *range(75, 100)]
    assert equal(initializers(after)["u"], initializers(before)["u"][kept])
    (written,) = [a for n, a in initializers(after).items() if n not in "wu"] or [None]
    expected = None if target is None else [t if t < 100 else 50 for t in target]
    assert (None if written is None else written.tolist()) == expected


def test_the_list_of_a_gather_gets_shorter():
    before, after = dropped(
        parse(
            """g (float[N, 6] x) => (float[N, 2] y) {
                a = Gather<axis = 1>(x, k) b = Gemm(a, w) y = Gemm(b, u)
            }""",
            k=np.array([5, 0, 3]), w=normal(0, 3, 4), u=normal(1, 4, 2),
        ),
        a=[0, -1, 0],
    )  # fmt: skip
    assert initializers(after)["k"].tolist() == [5, 3]
    assert nodes(after) == nodes(before)


OPTION_A = """
    g (float[N, 3, 6, 6] x) => (float[N, 2, 3, 3] y) {
        a = Conv(x, w)
        b = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(a, v)
        s = Slice(a, zero, end, spatial, two)
        p = Pad(s, pads)
        c = Add(b, p)
        y = Conv(c, u)
    }"""
OPTION_A_ARRAYS = {
    "w": normal(0, 4, 3, 1, 1), "v": normal(1, 8, 4, 3, 3), "u": normal(2, 2, 8, 1, 1),
    "zero": np.array([0, 0]), "end": np.array([6, 6]), "spatial": np.array([2, 3]),
    "two": np.array([2, 2]), "pads": np.array([0, 2, 0, 0, 0, 2, 0, 0]),
}  # fmt: skip


@pytest.mark.parametrize(
    ("inner", "outer", "pads"),
    [
        ([0, 0, 0, 0], [-1, 0, 0, -1], [0, 1, 0, 0, 0, 1, 0, 0]),
        ([0, -1, 0, -1], [0, 0, 0, 0], [0, 2, 0, 0, 0, 2, 0, 0]),
        ([0, -1, 0, 0], [0, -1, -1, -1], [0, 1, 0, 0, 0, 0, 0, 0]),
    ],
)
def test_option_a_shortcuts_stay_one_pad(inner: list[int], outer: list[int], pads: list[int]):
    before, after = dropped(parse(OPTION_A, **OPTION_A_ARRAYS), a=inner, b=outer)
    assert [n.op_type for n in after.graph.node] == [n.op_type for n in before.graph.node]
    (pad,) = [n for n in after.graph.node if n.op_type == "Pad"]
    assert initializers(after)[pad.input[1]].tolist() == pads
    assert pad.output[0] == "p"


def test_a_shortcut_without_anything_around_it_is_no_pad():
    _, after = dropped(parse(OPTION_A, **OPTION_A_ARRAYS), b=[-1, -1, -1, -1])
    assert [n.op_type for n in after.graph.node][3:5] == ["Identity", "Add"]


def test_split_and_slice():
    _, after = dropped(
        parse(
            """g (float[N, 3] x) => (float[N, 2] y) {
                a = Gemm(x, w) p, q = Split<axis = 1>(a, s) r = Slice(a, one, four, one, two)
                c = Concat<axis = 1>(q, p, r) y = Gemm(c, u)
            }""",
            w=normal(0, 3, 6), u=normal(1, 9, 2), s=np.array([2, 4]), one=np.array([1]),
            four=np.array([4]), two=np.array([1]),
        ),
        a=[0],  # channel 0
        a__2=[-1],  # channel 1, which r shows too
        a__3=[0, -1],  # channels 2 and 3, which r shows
        a__4=[0, -1],  # channels 4 and 5
    )  # fmt: skip
    assert shapes(after)["w"] == (3, 3)
    assert shapes(after)["u"] == (4, 2)
    names = [n.split(" = ")[0] for n in nodes(after)]
    assert {"p", "q", "r"} <= set(names)


@pytest.mark.parametrize("opset", [9, 10, 12, 13])
def test_old_opsets_keep_their_forms(opset: int):
    calls = {
        9: "b = Slice<starts = [1], ends = [4], axes = [1]>(a) c = Pad<pads = [0, 1, 0, 1]>(b)",
        10: "b = Slice(a, lo, hi, on) c = Pad<pads = [0, 1, 0, 1]>(b)",
    }.get(opset, "b = Slice(a, lo, hi, on) c = Pad(b, pads)")
    arrays = {"lo": np.array([1]), "hi": np.array([4]), "on": np.array([1])}
    arrays |= {"pads": np.array([0, 1, 0, 1])}
    body = f"a = Gemm(x, w, o) {calls} d = Gemm(x, v, o) e = Add(c, d) y = Gemm(e, u, z)"
    before = parse(
        f"g (float[N, 3] x) => (float[N, 2] y) {{ {body} }}",
        opset,
        w=normal(0, 3, 5), v=normal(1, 3, 5), u=normal(2, 5, 2), o=normal(3, 5), z=normal(4, 2),
        **{n: a for n, a in arrays.items() if n in body},
    )  # fmt: skip
    graph = channels_of(before)
    free = {g.name: len(g.channels) for g in graph.groups if g.frozen is None}
    labels = {name.replace("#", "__"): [-1] + [0] * (n - 1) for name, n in free.items() if n > 1}
    _, after = dropped(before, **labels)
    assert shapes(after)["w"][1] < 5


def test_nothing_to_drop():
    before = parse(DEPTHWISE, w=normal(0, 4, 3, 1, 1), k=normal(1, 4, 1, 3, 3), j=normal(2, 4),
                   u=normal(3, 2, 4, 1, 1))  # fmt: skip
    graph = channels_of(before)
    after = reordered(DropChannels(graph, dense_layout(graph)), before, modified=False)
    assert nodes(after) == nodes(before)
    assert initializers(after).keys() == initializers(before).keys()


def test_channels_afterwards_are_those_that_an_analysis_finds():
    before = parse(OPTION_A, **OPTION_A_ARRAYS)
    graph = channels_of(before)
    layout = layout_of(graph, a=[0, -1, 0, 0], b=[0, -1, -1, 0])
    pass_ = DropChannels(graph, layout)
    after = reordered(pass_, masked(before, graph, layout))
    told, found = pass_.graph_after(), channels_of(after)
    sizes = [
        [(n, a.axis, len(a.channels)) for n, a in sorted(g.values.items())] for g in (told, found)
    ]
    assert sizes[0] == sizes[1]
    assert [len(g.channels) for g in told.groups] == [len(g.channels) for g in found.groups]
    assert told.moves["p"].positions.tolist() == found.moves["p"].positions.tolist()
    assert [(e.name, e.weights) for e in told.edges] == [(e.name, e.weights) for e in found.edges]
