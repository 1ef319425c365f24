import numpy as np
import onnx_ir as ir
import pytest
from pass_helpers import mark, normal, parse
from split_models import batched, batched_arrays, mark_batched, two_convs

from crespr_onnx.errors import ModelError, VerificationError
from crespr_onnx.passes.spec import check_compilable, check_imported, check_split

SMALL = "g (float[N, 2] x) => (float[N, 2] y) { a = Relu(x) y = Neg(a) }"


def small() -> ir.Model:
    return ir.from_proto(parse(SMALL))


def test_legal_models_pass():
    for check in (check_imported, check_split, check_compilable):
        check(small())
        check(ir.from_proto(two_convs()))


def test_names():
    model = small()
    model.graph[1].name = "relu_0"
    with pytest.raises(ModelError, match="Neg node 'relu_0' needs a name of its own; another"):
        check_imported(model)
    model.graph[1].name = ""
    with pytest.raises(ModelError, match="Neg node '' needs a name of its own; it has none"):
        check_imported(model)


def test_order():
    model = small()
    model.graph.remove(first := model.graph[0])
    model.graph.append(first)
    with pytest.raises(ModelError, match="Neg node 'neg_1' reads 'a' before it is made: sort"):
        check_imported(model)


def test_opset():
    model = small()
    del model.graph.opset_imports[""]
    with pytest.raises(ModelError, match="imports no version of the standard operator set"):
        check_imported(model)


@pytest.mark.parametrize("check", [check_imported, check_compilable])
def test_constant_nodes(check):
    graph = "g (float[N] x) => (float[N] y) { c = Constant<value_float = 1.0>() y = Add(x, c) }"
    with pytest.raises(ModelError, match="Constant node 'constant_0' should be an initializer"):
        check(ir.from_proto(parse(graph)))


@pytest.mark.parametrize(
    ("graph", "name"),
    [
        ("g (float[N, 2] x) => (float[N, 2] y) { y, m, v = BatchNormalization<training_mode = 1>"
         "(x, s, s, s, s) }", "BatchNormalization node 'batchnormalization_0'"),
        ("g (float[N, 2] x) => (float[N, 2] y) { y = Dropout(x, , yes) }",
         "Dropout node 'dropout_0'"),
    ],
)  # fmt: skip
def test_training_mode(graph: str, name: str):
    arrays = {"s": np.ones(2, np.float32)} if "(x, s" in graph else {"yes": np.array(True)}
    with pytest.raises(ModelError, match=f"{name} is in training mode: export"):
        check_imported(ir.from_proto(parse(graph, **arrays)))


def test_groups():
    model = two_convs()
    mark(model, "relu_1", clusters=2)
    with pytest.raises(VerificationError, match=r"Relu node 'relu_1' is marked .* no constant"):
        check_split(ir.from_proto(model))
    broken = ir.from_proto(two_convs())
    broken.graph[0].metadata_props["crespr.clusters"] = "4"
    with pytest.raises(
        VerificationError,
        match=r"Conv node 'conv1' is marked crespr.clusters=4 but has group=2 and a weight of "
        r"shape \[4, 2, 3, 3\]; expected group=4",
    ):
        check_split(broken)
    broken.graph[0].metadata_props["crespr.clusters"] = "two"
    with pytest.raises(VerificationError, match=r"'conv1' is marked crespr.clusters='two'; expect"):
        check_split(broken)


def test_other_operators_cannot_be_marked():
    model = parse("g (float[N, 2] x) => (float[N, 3] y) { y = Gemm(x, w) }", w=normal(0, 2, 3))
    mark(model, "gemm_0", clusters=2)
    with pytest.raises(VerificationError, match=r"Gemm node 'gemm_0' is marked .*; only Conv"):
        check_split(ir.from_proto(model))


def batched_model(**changed: np.ndarray) -> ir.Model:
    model = parse(
        f"g (float[N, 6] x) => (float[N, 8] y) {{ {batched('fc', 'x', 'y')} }}",
        **batched_arrays("fc", 2, 3, 4),
    )
    mark_batched(model, 2)
    loaded = ir.from_proto(model)
    for name, array in changed.items():
        loaded.graph.initializers[name].const_value = ir.tensor(array)
    return loaded


def test_batches():
    check_split(batched_model())
    with pytest.raises(
        VerificationError,
        match=r"MatMul node 'fc/matmul' is marked crespr.clusters=2 but has a weight of shape "
        r"\[3, 3, 4\]; expected \[2, n, m\]",
    ):
        check_split(batched_model(fc_w=normal(0, 3, 3, 4)))
    with pytest.raises(
        VerificationError,
        match=r"MatMul node 'fc/matmul' has a weight of shape \[2, 3, 4\] but its input comes as "
        r"\[3, N, 2\]; expected \[2, N, 3\]",
    ):
        check_split(batched_model(fc_in=np.array([-1, 3, 2])))


def test_foldable_batch_norm():
    graph = """
        g (float[N, 2, 3, 3] x) => (float[N, 2, 3, 3] y) {
            z = Conv(x, w)
            y = BatchNormalization(z, s, s, s, s)
        }"""
    model = parse(graph, w=normal(0, 2, 2, 1, 1), s=np.ones(2, np.float32))
    with pytest.raises(
        ModelError, match="BatchNormalization node 'batchnormalization_1' can be folded into 'conv_"
    ):
        check_compilable(ir.from_proto(model))
    check_compilable(ir.from_proto(parse(graph.replace("Conv(x, w)", "Relu(x)"),
                                         s=np.ones(2, np.float32))))  # fmt: skip


def test_computed_pads():
    graph = "g (float[N, 2] x) => (float[N, 4] y) { p = Add(q, q) y = Pad(x, p) }"
    with pytest.raises(
        ModelError, match="Pad node 'pad_1' computes its input 'p', which must be constant: fold"
    ):
        check_compilable(ir.from_proto(parse(graph, q=np.array([0, 1, 0, 0]))))


def test_static_shapes():
    model = parse("g (float[N, L] x) => (float[N, L] y) { y = Relu(x) }")
    with pytest.raises(ModelError, match=r"Input 'x' has shape \[N,L\]; all but the first"):
        check_compilable(ir.from_proto(model))
    graph = "g (float[N, 2] x) => (int64[2, M] y) { y = NonZero(x) }"
    with pytest.raises(
        ModelError, match=r"NonZero node 'nonzero_0' makes 'y' of shape \[2,.*\]; it must be static"
    ):
        check_compilable(ir.from_proto(parse(graph)))
