"""What load_model takes and how it normalises."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from crespr_onnx.errors import ModelError
from crespr_onnx.graph.load import load_model

NET = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[batch,1,4,4] image) => (float[batch,2] logits)
<float[2,1,3,3] kernel = {1,2,3,4,5,6,7,8,9,1,1,1,1,1,1,1,1,1}, float[8,2] weight =
 {1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16}, float[2] bias = {1,2}>
{
  c = Conv(image, kernel)
  r = Relu(c)
  f = Flatten(r)
  logits = Gemm(f, weight, bias)
}
"""


def net() -> onnx.ModelProto:
    return onnx.parser.parse_model(NET)


def saved(tmp_path: Path, model: onnx.ModelProto, name: str = "net.onnx") -> Path:
    path = tmp_path / name
    path.write_bytes(model.SerializeToString())
    return path


def refused(path: Path, match: str, **options: int) -> None:
    with pytest.raises(ModelError, match=match) as caught:
        load_model(path, **options)
    assert str(caught.value).startswith(f"{path}: ")
    assert caught.value.exit_code == 3


def test_reads_a_model_with_its_signature(tmp_path: Path) -> None:
    path = saved(tmp_path, net())
    loaded = load_model(str(path))
    assert str(loaded.signature) == "image: float32[batch,1,4,4] -> logits: float32[batch,2]"
    assert loaded.signature.inputs[0].dims == ("batch", 1, 4, 4)
    assert loaded.signature.inputs[0].dynamic_batch
    assert loaded.signature.classes == 2
    assert loaded.path == path
    assert loaded.bytes == path.stat().st_size
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_infers_shapes_and_names_every_node(tmp_path: Path) -> None:
    model = net()
    model.graph.node[1].name = model.graph.node[2].name = "twice"
    nodes = list(load_model(saved(tmp_path, model)).model.graph)
    assert [node.name for node in nodes] == ["Conv", "twice", "twice_1", "Gemm"]
    assert [list(node.outputs[0].shape or ())[1:] for node in nodes] == [
        [2, 2, 2],
        [2, 2, 2],
        [8],
        [2],
    ]


def test_keeps_the_output_as_declared(tmp_path: Path) -> None:
    model = net()
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "rows"
    model.graph.output[0].type.tensor_type.shape.dim[1].ClearField("dim_value")
    signature = load_model(saved(tmp_path, model)).signature
    assert str(signature.outputs[0]) == "logits: float32[rows,?]"
    assert signature.classes is None


def test_an_initializer_that_is_an_input_is_only_a_weight(tmp_path: Path) -> None:
    model = net()
    model.ir_version = 3
    for tensor in model.graph.initializer:
        model.graph.input.append(
            helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        )
    loaded = load_model(saved(tmp_path, model))
    assert [spec.name for spec in loaded.signature.inputs] == ["image"]
    assert [value.name for value in loaded.model.graph.inputs] == ["image"]
    assert loaded.model.ir_version == 4


def test_unknown_dims_as_paddle_writes_them(tmp_path: Path) -> None:
    model = net()
    dims = model.graph.input[0].type.tensor_type.shape.dim
    dims[0].dim_value = -1
    dims[2].dim_param = "?"
    signature = load_model(saved(tmp_path, model)).signature
    assert str(signature.inputs[0]) == "image: float32[?,1,?,4]"


def test_the_domain_may_be_spelled_out(tmp_path: Path) -> None:
    model = net()
    model.opset_import[0].domain = "ai.onnx"
    for node in model.graph.node:
        node.domain = "ai.onnx"
    loaded = load_model(saved(tmp_path, model))
    assert loaded.model.opset_imports == {"": 17}


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "is empty; export or copy"),
        (b"hello, this is text", "is not an ONNX model; give an .onnx file"),
        (b"PK\x03\x04rest", "is not an ONNX model but a zip archive such as PyTorch writes"),
        (
            b"version https://git-lfs.github.com/spec/v1",
            "a Git LFS pointer; fetch .* with `git lfs pull`",
        ),
        (b"\x89HDF\r\n", "an HDF5 file"),
        (b"\x1c\x00\x00\x00TFL3", "a TensorFlow Lite model"),
        (b"\x08\x08", "is not an ONNX model, or is truncated: it holds no graph"),
    ],
)
def test_refuses_what_is_no_model(tmp_path: Path, content: bytes, match: str) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    refused(path, match)


def test_refuses_what_is_no_file(tmp_path: Path) -> None:
    refused(tmp_path / "absent.onnx", "no such file; give the path")
    refused(tmp_path, "is not a file; give the path")


def test_refuses_a_truncated_model(tmp_path: Path) -> None:
    path = saved(tmp_path, net())
    path.write_bytes(path.read_bytes()[:100])
    refused(path, "is truncated or damaged after 100 bytes; copy or export")


def test_refuses_what_is_too_large(tmp_path: Path) -> None:
    path = saved(tmp_path, net())
    size = path.stat().st_size
    assert load_model(path, max_bytes=size).bytes == size
    refused(path, f"has {size} bytes, more than the limit of {size - 1}", max_bytes=size - 1)


def test_refuses_activations_beyond_the_limit(tmp_path: Path) -> None:
    model = net()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 10**9
    refused(saved(tmp_path, model), r"node 'Conv' \(Conv\) makes a tensor of shape \[1000000000, 2")


def test_passes_on_what_the_checker_says(tmp_path: Path) -> None:
    model = net()
    model.graph.node[0].op_type = "Konv"
    refused(saved(tmp_path, model), "the ONNX checker refuses it: No Op registered for Konv")
    model = net()
    model.graph.node[0].input[0] = "nowhere"
    refused(saved(tmp_path, model), "the ONNX checker refuses it: Nodes in a graph must be topolog")


def test_refuses_text_that_is_no_text(tmp_path: Path) -> None:
    path = saved(tmp_path, net())
    path.write_bytes(path.read_bytes().replace(b"Relu", b"Rel\xff"))
    refused(path, "is damaged: the op_type of a NodeProto is not text")


@pytest.mark.parametrize(
    ("tensor", "match"),
    [
        (
            TensorProto(dims=[8, 2], data_type=TensorProto.FLOAT, raw_data=bytes(60)),
            r"'weight' declares FLOAT\[8, 2\], which takes 64 bytes, but stores 60",
        ),
        (
            TensorProto(dims=[2**40, 2**40], data_type=TensorProto.FLOAT, raw_data=bytes(4)),
            "bytes, but stores 4; the file is damaged",
        ),
        (
            TensorProto(dims=[8, 2], data_type=TensorProto.FLOAT, float_data=[0.0] * 3),
            "which takes 16 values, but stores 3",
        ),
        (
            TensorProto(dims=[-8, 2], data_type=TensorProto.FLOAT),
            r"declares shape \[-8, 2\] with a negative dimension",
        ),
        (TensorProto(dims=[8, 2], data_type=77), "has unknown element type 77"),
    ],
)
def test_refuses_sizes_that_lie(tmp_path: Path, tensor: TensorProto, match: str) -> None:
    model = net()
    tensor.name = "weight"
    model.graph.initializer[1].CopyFrom(tensor)
    refused(saved(tmp_path, model), match)


def test_counts_packed_and_paired_values(tmp_path: Path) -> None:
    """Four-bit integers share bytes, complex numbers take two values, halves hide in int32."""
    model = net()
    model.opset_import[0].version = 21
    model.ir_version = 10
    for name, data_type, values in (
        ("half", TensorProto.FLOAT16, [1.5, 2.5, 3.5]),
        ("nibbles", TensorProto.INT4, [1, -2, 3]),
        ("pairs", TensorProto.COMPLEX64, [1 + 2j, 3j, 0j]),
    ):
        model.graph.initializer.append(helper.make_tensor(name, data_type, [3], values))
    loaded = load_model(saved(tmp_path, model)).model.graph.initializers
    half = loaded["half"].const_value
    assert half is not None
    np.testing.assert_array_equal(half.numpy(), np.array([1.5, 2.5, 3.5], dtype=np.float16))
