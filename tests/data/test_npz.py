"""Data from .npz files, and the checks that all formats share."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crespr_onnx.data import Samples, load_data
from crespr_onnx.errors import DataError
from crespr_onnx.graph.signature import Dim, ModelSignature, TensorSpec


def spec(name: str, *dims: Dim, dtype: Any = np.float32) -> TensorSpec:
    return TensorSpec(name, np.dtype(dtype), dims)


ONE = ModelSignature((spec("x", "batch", 3),), (spec("logits", "batch", 4),))
TWO = ModelSignature(
    (spec("ids", "b", "length", dtype=np.int64), spec("mask", "b", "length")),
    (spec("y", "b", 2),),
)
X = np.arange(15, dtype=np.float32).reshape(5, 3)
LABELS = np.array([0, 3, 1, 2, 0], dtype=np.uint8)


def load(tmp_path: Path, signature: ModelSignature = ONE, **arrays: Any) -> Samples:
    path = tmp_path / "train.npz"
    min_samples = arrays.pop("min_samples", 1)
    max_bytes = arrays.pop("max_bytes", 2**30)
    np.savez(path, **arrays)
    return load_data(path, signature, min_samples=min_samples, max_bytes=max_bytes)


def refused(tmp_path: Path, match: str, signature: ModelSignature = ONE, **arrays: Any) -> None:
    with pytest.raises(DataError, match=match) as caught:
        load(tmp_path, signature, **arrays)
    assert caught.value.exit_code == 4
    assert str(caught.value).startswith(f"{tmp_path / 'train.npz'}: ")
    assert str(caught.value).endswith(f"The model takes {signature}")


def test_reads_inputs_and_labels(tmp_path: Path) -> None:
    samples = load(tmp_path, x=X, labels=LABELS)
    np.testing.assert_array_equal(samples.batch(slice(None))["x"], X)
    assert samples.labels is not None
    assert samples.labels.dtype == np.int64
    assert samples.labels.tolist() == LABELS.tolist()


def test_labels_may_be_missing(tmp_path: Path) -> None:
    assert load(tmp_path, x=X).labels is None


def test_compressed_and_fortran_ordered_files(tmp_path: Path) -> None:
    path = tmp_path / "train.npz"
    np.savez_compressed(path, x=np.asfortranarray(X))
    np.testing.assert_array_equal(load_data(str(path), ONE).inputs["x"], X)


def test_an_input_may_be_called_labels(tmp_path: Path) -> None:
    signature = ModelSignature((spec("labels", "b", 3),), ONE.outputs)
    samples = load(tmp_path, signature, labels=X)
    assert samples.labels is None
    np.testing.assert_array_equal(samples.inputs["labels"], X)


def test_labels_are_bounded_only_where_the_classes_are_known(tmp_path: Path) -> None:
    signature = ModelSignature(ONE.inputs, (spec("y", "batch", None),))
    samples = load(tmp_path, signature, x=X, labels=LABELS + 100)
    assert samples.labels is not None
    assert samples.labels.max() == 103


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"images": X}, "holds images, which the model has no input for; name arrays like the in"),
        ({"x": X, "weights": X}, "holds weights, which the model has no input for"),
        ({"labels": LABELS}, "lacks x; give an array for every input"),
        ({"x": X[:, :2]}, r"x has shape \[5, 2\]; \[N, 3\] is needed, N samples first"),
        ({"x": X[0]}, r"x has shape \[3\]; \[N, 3\] is needed"),
        ({"x": X[None]}, r"x has shape \[1, 5, 3\]; \[N, 3\] is needed"),
        ({"x": np.float32(1)}, r"x has shape \[\]; \[N, 3\] is needed"),
        ({"x": X.astype(np.float64)}, r"x is float64, not float32; .*\.astype\('float32'\)"),
        ({"x": X.astype(np.uint8)}, "x is uint8, not float32"),
        ({"x": X.astype(">f4")}, "x is >f4, not float32"),
        ({"x": np.array([["a"] * 3])}, "x is <U1, not float32"),
        (
            {"x": np.where(X == 7, np.nan, X).astype(np.float32)},
            "x has NaN or infinity in 1 samples, first in sample 2; remove or repair",
        ),
        ({"x": np.where(X > 9, np.inf, X).astype(np.float32)}, "in 2 samples, first in sample 3"),
        ({"x": X[:0]}, "has 0 samples; at least 1 are needed"),
        ({"x": X, "min_samples": 6}, "has 5 samples; at least 6 are needed"),
        ({"x": X, "labels": LABELS[:4]}, "numbers of samples differ: x has 5, labels has 4"),
        ({"x": X, "labels": LABELS + 1}, "labels go from 1 to 4; 4 is out of range, 0 to 3"),
        ({"x": X, "labels": LABELS.astype(int) - 1}, "-1 to 2; -1 is out of range, 0 to 3"),
        ({"x": X, "labels": LABELS.astype(np.float32)}, r"labels are float32; .*astype\('int64'\)"),
        (
            {"x": X, "labels": np.eye(5, dtype=np.int64)},
            r"labels have shape \[5, 5\]; give one class number per sample \(argmax",
        ),
    ],
)
def test_refuses_what_does_not_fit(tmp_path: Path, arrays: dict[str, Any], match: str) -> None:
    refused(tmp_path, match, **arrays)


def test_symbols_bind_lengths(tmp_path: Path) -> None:
    ids, mask = np.zeros((2, 7), np.int64), np.zeros((2, 7), np.float32)
    assert len(load(tmp_path, TWO, ids=ids, mask=mask)) == 2
    refused(tmp_path, "length is 7 in ids but 6 in mask", TWO, ids=ids, mask=mask[:, :6])
    refused(tmp_path, "samples differ: ids has 2, mask has 1", TWO, ids=ids, mask=mask[:1])


def test_a_scalar_input_has_no_samples(tmp_path: Path) -> None:
    signature = ModelSignature((spec("rate", dtype=np.int64),), ONE.outputs)
    refused(tmp_path, "rate is a single value, so it has no axis", signature, rate=np.int64(1))


def test_python_objects_are_never_loaded(tmp_path: Path) -> None:
    ragged = np.array([[1], [2, 3]], dtype=object)
    with pytest.raises(DataError, match="x holds Python objects, which are not read for safety"):
        load(tmp_path, x=ragged)


def test_a_size_that_lies_is_found_before_it_is_allocated(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (2**40, 3)}
    )
    path = tmp_path / "train.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", header.getvalue() + bytes(60))
    match = r"x declares float32\[1099511627776, 3\] but stores 60 bytes; the file is damaged"
    with pytest.raises(DataError, match=match):
        load_data(path, ONE)


def test_memory_is_bounded(tmp_path: Path) -> None:
    assert len(load(tmp_path, x=X, max_bytes=60)) == 5
    with pytest.raises(DataError, match="holds 60 bytes of arrays, more than the limit of 59"):
        load(tmp_path, x=X, max_bytes=59)


@pytest.mark.parametrize(
    ("content", "match"),
    [(b"", "is not an .npz file, or is truncated"), (b"text", "is not an .npz file")],
)
def test_refuses_what_is_no_zip(tmp_path: Path, content: bytes, match: str) -> None:
    path = tmp_path / "train.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=match):
        load_data(path, ONE)


def test_refuses_a_zip_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "train.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(DataError, match=r"'readme\.txt' in it is no array"):
        load_data(path, ONE)


def test_damage_is_always_a_data_error(tmp_path: Path) -> None:
    path = tmp_path / "train.npz"
    np.savez_compressed(path, x=X, labels=LABELS)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    refusals = 0
    for _ in range(300):
        damaged = bytearray(
            content[: rng.integers(1, len(content))] if rng.random() < 0.2 else content
        )
        for position in rng.integers(len(damaged), size=rng.choice([1, 2, 8])):
            damaged[position] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            load_data(path, ONE)
        except DataError:
            refusals += 1
    assert refusals > 100


def test_a_path_that_is_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.npz: no such file or folder; give an \.npz file"):
        load_data(tmp_path / "absent.npz", ONE)
    (tmp_path / "table.csv").write_text("1,2")
    with pytest.raises(DataError, match=r"is neither an \.npz file nor a folder"):
        load_data(tmp_path / "table.csv", ONE)
