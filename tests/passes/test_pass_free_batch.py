import numpy as np
import onnx
import onnx_ir as ir
import pytest
from pass_helpers import initializers, nodes, normal, parse, run

from crespr_onnx.passes.free_batch import FreeBatch


def freed(model: onnx.ModelProto) -> onnx.ModelProto:
    found = ir.from_proto(model)
    assert FreeBatch()(found).modified
    after = ir.to_proto(found)
    onnx.checker.check_model(after, full_check=True)
    return after


def dims(value: onnx.ValueInfoProto) -> list[int | str]:
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


def test_one_sample_becomes_any_number():
    before = parse(
        """g (float[1, 2, 3] x) => (float[1, 4] y) {
            a = Relu(x)
            b = Reshape(a, flat)
            y = MatMul(b, w)
        }""",
        flat=np.array([1, 6]),
        w=normal(0, 6, 4),
    )
    after = freed(before)
    assert nodes(after) == ["a = Relu(x)", "b = Reshape(a, reshape_1/shape)", "y = MatMul(b, w)"]
    assert initializers(after)["reshape_1/shape"].tolist() == [0, 6]
    assert dims(after.graph.input[0]) == ["batch", 2, 3]
    assert dims(after.graph.output[0]) == ["batch", 4]
    np.testing.assert_array_equal(run(after, 1)[0], run(before, 1)[0])
    assert run(after, 5)[0].shape == (5, 4)


def test_targets_that_do_not_begin_with_the_batch_stay():
    before = parse(
        """g (float[1, 6] x) => (float[1, 3] y) {
            a = Reshape(x, left)
            b = Transpose<perm = [1, 0]>(a)
            c = Reshape(b, ones)
            y = ReduceSum<keepdims = 0>(c, axes)
        }""",
        left=np.array([-1, 3]),
        ones=np.array([1, 3, 2]),
        axes=np.array([2]),
    )
    after = freed(before)
    assert initializers(after)["ones"].tolist() == [1, 3, 2]
    assert initializers(after)["left"].tolist() == [-1, 3]


@pytest.mark.parametrize(
    "inputs", ["float[N, 2] x", "float[2, 2] x", "float[1, 2] x, float[2, 2] z"]
)
def test_other_batches_stay(inputs: str):
    model = ir.from_proto(parse(f"g ({inputs}) => (float[A, B] y) {{ y = Relu(x) }}"))
    assert not FreeBatch()(model).modified
