"""Stored weights, bytes and multiply-accumulates, against counts made by hand."""

import onnx
import onnx_ir as ir
import pytest
from rule_helpers import prepared

from crespr_onnx.errors import UsageError
from crespr_onnx.graph.accounting import NodeCost, node_costs, stored_weights, with_macs
from crespr_onnx.graph.channels import find_channels


def model(graph: str, opset: int = 17) -> ir.Model:
    text = f'<ir_version: 8, opset_import: ["" : {opset}]> {graph}'
    converted = ir.from_proto(onnx.parser.parse_model(text))
    for index, node in enumerate(converted.graph):
        node.name = f"{node.op_type}{index}"
    return converted


def total_macs(net: ir.Model, shapes: dict[str, tuple[int, ...]] | None = None) -> int | None:
    """Multiply-accumulates of all nodes; None if any is unknown."""
    macs = [cost.macs for cost in node_costs(net, shapes)]
    return None if None in macs else sum(m for m in macs if m is not None)


def tensor(name: str, *dims: int) -> str:
    size = 1
    for dim in dims:
        size *= dim
    return f"float[{','.join(map(str, dims))}] {name} = {{{','.join(['1'] * size)}}}"


def test_a_small_cnn() -> None:
    net = model(f"""
        net (float[batch,3,8,8] x) => (float[batch,5] y)
        <{tensor("k", 4, 3, 3, 3)}, {tensor("kb", 4)}, {tensor("w", 144, 5)}, {tensor("b", 5)}>
        {{ c = Conv(x, k, kb)
           f = Flatten(c)
           y = Gemm(f, w, b) }}""")
    assert node_costs(net) == (
        NodeCost("Conv0", "Conv", 108, 4 * (108 + 4), 108 * 36, depthwise=False),
        NodeCost("Gemm2", "Gemm", 720, 4 * (720 + 5), 720, depthwise=False),
    )
    assert stored_weights(net) == 108 + 720
    assert total_macs(net) == 108 * 36 + 720


@pytest.mark.parametrize(
    ("groups", "shape", "mark", "counted"),
    [
        (1, (4, 4, 3, 3), False, 144),
        (2, (4, 2, 3, 3), False, 72),
        (4, (4, 1, 3, 3), False, 0),
        (4, (4, 1, 3, 3), True, 36),
        (4, (8, 1, 3, 3), False, 72),
    ],
)
def test_depthwise_counts_only_when_splitting_made_it(
    groups: int, shape: tuple[int, ...], mark: bool, counted: int
) -> None:
    net = model(f"""
        net (float[batch,4,5,5] x) => (float[batch,{shape[0]},3,3] y) <{tensor("k", *shape)}>
        {{ y = Conv <group = {groups}> (x, k) }}""")
    if mark:
        net.graph[0].metadata_props["crespr.clusters"] = str(groups)
    assert stored_weights(net) == counted
    (cost,) = node_costs(net)
    assert cost.depthwise is (counted == 0)
    assert cost.macs == cost.weights * 9


def test_a_transposed_convolution_writes_each_input_once() -> None:
    net = model(f"""
        net (float[batch,4,5,5] x) => (float[batch,2,11,11] y) <{tensor("k", 4, 2, 3, 3)}>
        {{ y = ConvTranspose <strides = [2, 2]> (x, k) }}""")
    (cost,) = node_costs(net)
    assert (cost.weights, cost.macs) == (72, 5 * 5 * 4 * 2 * 9)


def test_batched_matmul_with_constant_weights() -> None:
    net = model(f"""
        net (float[2,batch,3] x) => (float[2,batch,5] y) <{tensor("w", 2, 3, 5)}>
        {{ y = MatMul(x, w) }}""")
    assert stored_weights(net) == 30
    assert total_macs(net, {"x": (2, 1, 3)}) == 30


def test_a_constant_on_the_left_weighs_as_well() -> None:
    net = model(f"""
        net (float[3,4] x) => (float[2,4] y) <{tensor("w", 2, 3)}> {{ y = MatMul(w, x) }}""")
    assert stored_weights(net) == 6
    assert total_macs(net) == 24


def test_products_of_activations_store_nothing() -> None:
    net = model("net (float[n,4,4] x) => (float[n,4,4] y) { y = MatMul(x, x) }")
    assert stored_weights(net) == 0
    assert node_costs(net) == (NodeCost("MatMul0", "MatMul", 0, 0, 64, depthwise=False),)


def test_a_shared_weight_is_stored_once_and_used_twice() -> None:
    net = model(f"""
        net (float[n,3] x) => (float[n,3] y) <{tensor("w", 3, 3)}>
        {{ h = MatMul(x, w)
           t = Transpose(w)
           y = Gemm(h, t) }}""")
    assert stored_weights(net) == 9
    assert total_macs(net) == 18


def test_weights_in_constant_nodes_count() -> None:
    net = model("""
        net (float[n,2] x) => (float[n,1] y)
        { w = Constant <value = float[2,1] {1, 2}> ()
          y = MatMul(x, w) }""")
    assert stored_weights(net) == 2
    assert total_macs(net) == 2


def test_sizes_that_are_computed_in_the_graph_are_found() -> None:
    """Static inference gives up on the Reshape; a run does not."""
    net = model(f"""
        net (float[batch,2,6] x) => (float[batch,z] y) <{tensor("w", 4, 5)}>
        {{ s = Shape(x)
           four = Constant <value = int64[1] {{4}}> ()
           minus = Constant <value = int64[1] {{-1}}> ()
           target = Concat <axis = 0> (minus, four)
           used = Shape(s)
           r = Reshape(x, target)
           y = MatMul(r, w) }}""")
    assert total_macs(net) == 3 * 20


def test_open_shapes_leave_macs_unknown() -> None:
    net = model(f"""
        net (float[batch,length,3] x) => (float[batch,length,2] y) <{tensor("w", 3, 2)}>
        {{ y = MatMul(x, w) }}""")
    assert node_costs(net)[0].macs is None
    assert total_macs(net) is None
    assert total_macs(net, {"x": (1, 7, 3)}) == 42
    with pytest.raises(UsageError, match="does not fit input x"):
        total_macs(net, {"x": (1, 7)})


CHAIN = """g (float[N, 4, 5, 5] x) => (float[N, 2, 10, 10] y) {
    a = Conv <pads = [1, 1, 1, 1]> (x, first)
    b = Conv <group = 8> (a, second)
    y = ConvTranspose <strides = [2, 2]> (b, third)
}"""


def test_edges_get_their_multiply_accumulates() -> None:
    net = prepared(CHAIN, first=(8, 4, 3, 3), second=(8, 1, 1, 1), third=(8, 2, 2, 2))
    graph, _ = find_channels(net)
    assert (graph.macs, [edge.macs for edge in graph.edges]) == (None, [None, None])
    counted = with_macs(graph, node_costs(net))
    # A transposed convolution writes once for each position that it reads.
    assert {edge.name: edge.macs for edge in counted.edges} == {
        "conv_0": 7200,
        "convtranspose_2": 64 * 25,
    }
    assert (counted.opaque_macs, counted.macs) == (0, 8800)


def test_multiply_accumulates_of_no_edge_are_counted_as_well() -> None:
    text = "g (float[4, 6] x) => (float[6, 6] y) { a = Gemm(x, v) y = Gemm <transA = 1> (a, w) }"
    net = prepared(text, v=(6, 6), w=(4, 6))
    graph, obstacles = find_channels(net)
    assert [obstacle.op for obstacle in obstacles] == ["Gemm"]
    counted = with_macs(graph, node_costs(net))
    assert [edge.macs for edge in counted.edges] == [4 * 36]
    assert (counted.opaque_macs, counted.macs) == (6 * 4 * 6, 288)


def test_shapes_that_are_not_known_leave_multiply_accumulates_unknown() -> None:
    text = "g (float[N, L, 3] x) => (float[N, L, 2] y) { a = MatMul(x, v) y = MatMul(a, w) }"
    net = prepared(text, v=(3, 4), w=(4, 2))
    graph, _ = find_channels(net)
    assert with_macs(graph, node_costs(net)).macs is None
    assert with_macs(graph, node_costs(net, {"x": (1, 7, 3)})).macs == 7 * 20
