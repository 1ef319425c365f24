"""The architectures of the models that benchmarks use, on real images, on boards, emulated."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from board_models import answers, check_close, require_emulation
from image_nets import cifar_resnet, lenet5
from numpy.typing import NDArray

from crespr_onnx import CompressSettings, compress
from crespr_onnx.stages.deliver import MODEL
from crespr_onnx.targets import find_target
from crespr_onnx.targets.check import run_artefact
from crespr_onnx.targets.compile import compile_model

DIGITS = Path(__file__).resolve().parents[2] / "samples" / "digits" / "eval.npz"
IMAGES = 3


def write_model(name: str, folder: Path) -> Path:
    path = folder / f"{name}.onnx"
    return lenet5(path) if name == "lenet5" else cifar_resnet(path, {"resnet20": 3}.get(name, 9))


def enlarged_digits(model: Path) -> tuple[str, list[NDArray[np.float32]]]:
    """Scanned digits of 8x8, as large and with as many channels as a model takes them."""
    (value,) = onnx.load(model).graph.input
    _, channels, height, width = (dim.dim_value for dim in value.type.tensor_type.shape.dim)
    with np.load(DIGITS) as data:
        digits = data["input"][:IMAGES].reshape(IMAGES, 8, 8)
    rows, columns = (np.arange(size) * 8 // size for size in (height, width))
    large = digits[:, rows][:, :, columns].astype(np.float32)
    return value.name, [np.stack([image] * channels)[np.newaxis] for image in large]


def check(model: Path, artefact: Path) -> None:
    name, images = enlarged_digits(model)
    for image in images:
        check_close(run_artefact(artefact, {name: image}), answers(model, {name: image}))


@pytest.mark.parametrize("target", ["arm64", "armv7"])
@pytest.mark.parametrize(
    "name",
    ["lenet5", *(pytest.param(name, marks=pytest.mark.slow) for name in ("resnet20", "resnet56"))],
)
def test_compressed_model_computes_the_same_on_a_board(tmp_path, name, target):
    require_emulation(target)
    report = compress(
        CompressSettings(
            write_model(name, tmp_path), 0.9, target, output=tmp_path / "out", epochs=0, threads=1,
            min_speedup=0.0,
        )
    )  # fmt: skip
    assert (report.status, report.exit_code) == ("ok", 0)
    assert report.ratio is not None
    assert report.ratio.physical >= 0.9
    check(tmp_path / "out" / MODEL, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("target", ["arm64", "armv7"])
@pytest.mark.parametrize("name", ["lenet5", "resnet20", "resnet56"])
def test_dense_model_computes_the_same_on_a_board(tmp_path, name, target):
    require_emulation(target)
    model = write_model(name, tmp_path)
    value, images = enlarged_digits(model)
    compile_model(model, tmp_path / "out", find_target(target), {value: images[0].shape})
    check(model, tmp_path / "out")
