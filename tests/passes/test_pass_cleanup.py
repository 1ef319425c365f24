import numpy as np
import onnx
import onnx_ir as ir
import pytest
from pass_helpers import apply, initializers, nodes, normal, parse, text

from crespr_onnx.passes.cleanup import Cleanup
from crespr_onnx.passes.remove_no_ops import RemoveNoOps
from crespr_onnx.passes.remove_unused import RemoveUnused


@pytest.mark.parametrize(
    "no_op",
    [
        "Identity(a)",
        "Dropout(a)",
        "Dropout(a, half)",
        "Dropout(a, half, no)",
        "Gather<axis = 1>(a, all)",
        "Gather<axis = -1>(a, all)",
        "Reshape(a, keep)",
        "Reshape(a, same)",
        "Transpose<perm = [0, 1]>(a)",
        "Flatten(a)",
        "Flatten<axis = -1>(a)",
    ],
)
def test_no_ops_go(no_op: str):
    before = parse(
        f"g (float[N, 4] x) => (float[N, 4] y) {{ a = Relu(x) b = {no_op} y = Sigmoid(b) }}",
        all=np.arange(4),
        half=np.float32(0.5),
        no=np.array(False),
        keep=np.array([0, -1]),
        same=np.array([-1, 4]),
    )
    after = apply(Cleanup(), before)
    assert nodes(after) == ["a = Relu(x)", "y = Sigmoid(a)"]
    assert initializers(after) == {}


def test_dropout_stays_if_its_mask_is_read_or_it_trains():
    before = parse(
        """g (float[N, 4] x, bool train) => (float[N, 4] y, bool[N, 4] m) {
            a, m = Dropout(x, half)
            b, unused = Dropout(a, half, train)
            y = Relu(b)
        }""",
        half=np.float32(0.5),
    )
    model = ir.from_proto(before)
    assert not RemoveNoOps()(model).modified
    assert nodes(ir.to_proto(model)) == nodes(before)


@pytest.mark.parametrize(
    "operator",
    [
        "Gather<axis = 1>(a, some)",
        "Gather<axis = 1>(a, turned)",
        "Gather<axis = 1>(a, square)",
        "Gather<axis = 0>(a, one)",
        "Reshape(a, wide)",
        "Reshape(a, flat)",
        "Transpose<perm = [1, 0]>(a)",
        "Transpose(a)",
        "Flatten<axis = 0>(a)",
        "Relu(a)",
    ],
)
def test_other_operators_stay(operator: str):
    arrays = {
        "some": np.arange(3),
        "turned": np.array([3, 2, 1, 0]),
        "square": np.arange(4).reshape(2, 2),
        "one": np.array([0]),
        "wide": np.array([-1, 2]),
        "flat": np.array([-1]),
    }
    used = {k: v for k, v in arrays.items() if k in operator}
    graph = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> '
        f"g (float[N, 4] x) => (y) {{ a = Relu(x) y = {operator} }}"
    )
    for name, array in used.items():
        graph.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    assert not Cleanup()(ir.from_proto(graph)).modified


def test_an_identity_that_makes_an_output_gives_it_its_name():
    before = parse("g (float[N] x) => (float[N] y) { a = Relu(x) y = Identity(a) }")
    assert nodes(apply(RemoveNoOps(), before)) == ["y = Relu(x)"]


@pytest.mark.parametrize(
    "graph",
    [
        "g (float[N] x) => (float[N] y) { y = Identity(x) }",
        "g (float[N] x) => (float[2] y, float[N] z) { y = Identity(w) z = Relu(x) }",
        "g (float[N] x) => (float[N] a, float[N] y) { a = Relu(x) y = Identity(a) }",
    ],
)
def test_an_identity_between_two_names_of_the_interface_stays(graph: str):
    arrays = {"w": normal(0, 2)} if "(w)" in graph else {}
    apply(Cleanup(), parse(graph, **arrays), modified=False)


def test_unused_nodes_and_initializers_go_and_the_rest_is_sorted():
    before = parse(
        """
        g (float[N, 2] x) => (float[N, 2] y) {
            a = Add(x, used)
            dead = Mul(a, also_used)
            more = Relu(dead)
            b = Mul(a, also_used)
            y = Relu(b)
        }""",
        used=normal(0, 2),
        also_used=normal(1, 2),
        unused=normal(2, 2),
    )
    model = ir.from_proto(before)
    model.graph.remove(last := model.graph[-1])
    model.graph.insert_before(model.graph[0], last)
    result = Cleanup()(model)
    assert result.modified
    after = ir.to_proto(model)
    assert nodes(after) == text("""
        a = Add(x, used)
        b = Mul(a, also_used)
        y = Relu(b)
    """)
    assert sorted(initializers(after)) == ["also_used", "used"]
    assert not Cleanup()(model).modified


def test_nodes_that_stay_are_not_touched():
    """onnx-ir's removal drops training_mode and does not say so."""
    before = parse(
        """
        g (float[N, 2] x) => (float[N, 2] y) {
            y = BatchNormalization<training_mode = 0>(x, s, s, s, v)
        }""",
        s=normal(0, 2),
        v=np.ones(2, np.float32),
    )
    after = apply(RemoveUnused(), before, modified=False)
    assert [a.name for a in after.graph.node[0].attribute] == ["training_mode"]


def test_equal_initializers_stay_apart():
    before = parse(
        "g (float[N, 2] x) => (float[N, 2] y) { a = Add(x, p) y = Add(a, q) }",
        p=np.zeros(2, np.float32),
        q=np.zeros(2, np.float32),
    )
    apply(Cleanup(), before, modified=False)


def test_unused_initializers_of_the_interface_stay():
    before = parse(
        "g (float[N, 2] x, float[2] default) => (float[N, 2] y, float[2] k) { y = Relu(x) }",
        default=normal(0, 2),
        k=normal(1, 2),
    )
    model = ir.from_proto(before)
    assert not Cleanup()(model).modified
    assert sorted(model.graph.initializers) == ["default", "k"]
