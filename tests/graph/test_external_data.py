"""External data stays inside of the model's folder and holds what the model declares."""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from crespr_onnx.errors import ModelError
from crespr_onnx.graph.load import load_model

WEIGHT = np.arange(12, dtype=np.float32).reshape(4, 3)


def model_with(folder: Path, **external: str) -> Path:
    """x @ w, with w of shape [4, 3] in external data that the entries describe."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4, 3])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in external.items():
        tensor.external_data.add(key=key, value=value)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [tensor],
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    path = folder / "net.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inner = tmp_path / "model"
    (inner / "sub").mkdir(parents=True)
    for place in (inner / "w.bin", inner / "sub" / "w.bin", tmp_path / "w.bin"):
        place.write_bytes(bytes(8) + WEIGHT.tobytes())
    return inner


@pytest.mark.parametrize("location", ["w.bin", "sub/w.bin", "./w.bin"])
def test_reads_data_below_the_folder(folder: Path, location: str) -> None:
    loaded = load_model(model_with(folder, location=location, offset="8", length="48"))
    weight = loaded.model.graph.initializers["w"].const_value
    assert weight is not None
    np.testing.assert_array_equal(weight.numpy(), WEIGHT)
    assert loaded.bytes == (folder / "net.onnx").stat().st_size + 48


def test_the_length_may_be_left_out(folder: Path) -> None:
    loaded = load_model(model_with(folder, location="w.bin", offset="8"))
    weight = loaded.model.graph.initializers["w"].const_value
    assert weight is not None
    np.testing.assert_array_equal(weight.numpy(), WEIGHT)


@pytest.mark.parametrize(
    "location", ["../w.bin", "sub/../../w.bin", "/etc/passwd", "C:\\w.bin", "\\w.bin", ""]
)
def test_refuses_to_leave_the_folder(folder: Path, location: str) -> None:
    with pytest.raises(ModelError, match="outside of the model's folder; keep the data beside"):
        load_model(model_with(folder, location=location, offset="8"))


def test_refuses_an_absolute_path_into_the_folder(folder: Path) -> None:
    with pytest.raises(ModelError, match="outside of the model's folder"):
        load_model(model_with(folder, location=str(folder / "w.bin"), offset="8"))


@pytest.mark.parametrize("location", ["link.bin", "linked/w.bin"])
def test_refuses_links(folder: Path, location: str) -> None:
    (folder / "link.bin").symlink_to(folder.parent / "w.bin")
    (folder / "linked").symlink_to(folder.parent, target_is_directory=True)
    with pytest.raises(ModelError, match="is a symbolic link; put the file itself into"):
        load_model(model_with(folder, location=location, offset="8"))


@pytest.mark.parametrize(
    ("entries", "match"),
    [
        ({"location": "absent.bin"}, "'absent.bin' of tensor 'w' is missing; copy it into"),
        ({"location": "sub"}, "'sub' of tensor 'w' is missing"),
        (
            {"location": "w.bin"},
            r"declares FLOAT\[4, 3\], which takes 48 bytes, but its external data has 56",
        ),
        ({"location": "w.bin", "offset": "8", "length": "44"}, "its external data has 44"),
        (
            {"location": "w.bin", "offset": "9", "length": "48"},
            "reaches to byte 57 of external data 'w.bin', which ends at 56; copy the whole file",
        ),
        ({"location": "w.bin", "offset": "-8"}, "offset '-8', which must be a count of bytes"),
        ({"location": "w.bin", "length": "4e1"}, "length '4e1', which must be a count of bytes"),
        ({"location": "w.bin", "offset": "9" * 30}, "which must be a count of bytes"),
    ],
)
def test_refuses_data_that_does_not_fit(folder: Path, entries: dict[str, str], match: str) -> None:
    with pytest.raises(ModelError, match=match):
        load_model(model_with(folder, **entries))


def test_refuses_a_pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(ModelError, match="'pipe' of tensor 'w' is missing"):
        load_model(model_with(folder, location="pipe"))


def test_bounds_all_data_before_reading(folder: Path) -> None:
    path = model_with(folder, location="w.bin", offset="8")
    size = path.stat().st_size
    assert load_model(path, max_bytes=size + 48).bytes == size + 48
    with pytest.raises(ModelError, match="exceeds the limit of 47 bytes at tensor 'w'"):
        load_model(path, max_bytes=size + 47)


def test_reads_what_onnx_saves(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHT.tobytes())
    model = onnx.load(model_with(tmp_path, location="w.bin"))
    onnx.save_model(
        model,
        tmp_path / "saved.onnx",
        save_as_external_data=True,
        location="s.bin",
        size_threshold=0,
    )
    weight = load_model(tmp_path / "saved.onnx").model.graph.initializers["w"].const_value
    assert weight is not None
    np.testing.assert_array_equal(weight.numpy(), WEIGHT)
