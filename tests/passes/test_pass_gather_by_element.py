"""Selections along the last axis are made element by element."""

import numpy as np
import pytest
from pass_helpers import apply, initializers, mark, nodes, parse, properties, text

from crespr_onnx.passes.gather_by_element import FEWEST, GatherByElement

MANY = np.random.default_rng(0).integers(0, 9, FEWEST).astype(np.int32)
FEW = MANY[: FEWEST - 1]


def selecting(
    shape: str, axis: int, positions: np.ndarray, *, opset: int = 17, marked: bool = True
):
    """y = relu(x)[..., positions], as split_clusters.py leaves it in front of layer "fc"."""
    rank = shape.count(",") + 1
    result = ", ".join("ABCD"[:rank])
    model = parse(
        f"""g (float[{shape}] x) => (float[{result}] y)
            <float[{shape}] a> {{ a = Relu(x) y = Gather<axis = {axis}>(a, s) }}""",
        opset,
        s=positions,
    )
    if marked:
        mark(model, "gather_1", selection="fc")
    return model


def test_indices_are_expanded_to_the_shape_of_the_batch():
    after = apply(GatherByElement(), selecting("N, 9", 1, MANY))
    assert nodes(after) == text(
        """a = Relu(x)
        a/leading/Shape/out = Shape(a)
        a/leading/Concat/out = Concat(a/leading/Shape/out, a/leading/one)
        fc/Expand/out = Expand(fc/selection, a/leading/Concat/out)
        y = GatherElements(a, fc/Expand/out)"""
    )
    np.testing.assert_array_equal(initializers(after)["fc/selection"], MANY[None])
    assert properties(after, ["fc/GatherElements"]) == [{"crespr.selection": "fc"}]


def test_no_shape_is_computed_for_batches_of_one():
    after = apply(GatherByElement(), selecting("1, 1, 9", 2, FEW))
    assert nodes(after) == text("a = Relu(x)\ny = GatherElements(a, fc/selection)")
    np.testing.assert_array_equal(initializers(after)["fc/selection"], FEW[None, None])


@pytest.mark.parametrize("opset", [11, 13, 14, 15, 18])
@pytest.mark.parametrize("shape", ["N, 9", "3, 9", "N, T, 9", "2, N, 9"])
def test_every_opset_and_rank(shape: str, opset: int):
    before = selecting(shape, shape.count(","), MANY, opset=opset)
    after = apply(GatherByElement(), before)
    assert [node.op_type for node in after.graph.node].count("GatherElements") == 1
    assert "Gather" not in [node.op_type for node in after.graph.node]


def test_layers_that_read_the_same_share_its_shape():
    before = parse(
        """g (float[N, 9] x) => (float[A, B] y, float[C, D] z)
            { y = Gather<axis = 1>(x, s) z = Gather<axis = 1>(x, t) }""",
        s=MANY,
        t=MANY[::-1],
    )
    mark(before, "gather_0", selection="q")
    mark(before, "gather_1", selection="k")
    kinds = [node.op_type for node in apply(GatherByElement(), before).graph.node]
    assert kinds == ["Shape", "Concat", "Expand", "GatherElements", "Expand", "GatherElements"]


@pytest.mark.parametrize(
    "before",
    [
        pytest.param(selecting("N, 9", 1, FEW), id="few"),
        pytest.param(selecting("N, 9, 2", 1, MANY), id="not the last axis"),
        pytest.param(selecting("N, 9", 1, MANY, marked=False), id="not ours"),
        pytest.param(selecting("N, 9", 1, MANY, opset=10), id="before GatherElements"),
        pytest.param(selecting("9", 0, MANY), id="a vector"),
    ],
)
def test_stays(before):
    apply(GatherByElement(), before, modified=False)
