"""The architectures of the models that benchmarks use, for three generations of CUDA devices."""

import json
from pathlib import Path

import onnx
import pytest
from board_models import answers, check_close, random_sample
from cuda_stand_in_run import run_on_stand_in
from image_nets import cifar_resnet, lenet5
from test_target_cuda import require_compiler

from crespr_onnx import CompressSettings, compress
from crespr_onnx.targets import find_target
from crespr_onnx.targets.compile import compile_model
from crespr_onnx.targets.cubin import find_images
from crespr_onnx.targets.cuda import CAPABILITIES
from crespr_onnx.targets.system import is_here

ARCHITECTURES = ("sm_75", "sm_87", "sm_90")
REGISTERS = 128
"""With so many a multiprocessor has room for four blocks of 128 threads."""


def write_model(name: str, folder: Path) -> Path:
    if name == "lenet5":
        return lenet5(folder / "lenet5.onnx")
    return cifar_resnet(folder / f"{name}.onnx", {"resnet20": 3, "resnet56": 9}[name])


def compressed(model: Path, folder: Path) -> Path:
    report = compress(
        CompressSettings(
            model, 0.9, "onnx", output=folder / "small", epochs=0, threads=1, max_drop=1.0,
            min_speedup=0.0,
        )
    )  # fmt: skip
    assert report.status == "ok"
    return folder / "small" / "model.onnx"


@pytest.mark.slow
@pytest.mark.parametrize("form", ["dense", "compressed"])
@pytest.mark.parametrize("name", ["lenet5", "resnet20", "resnet56"])
def test_model_compiles_for_each_architecture(tmp_path, record_property, name, form):
    require_compiler()
    model = write_model(name, tmp_path)
    if form == "compressed":
        model = compressed(model, tmp_path)
    sample = random_sample(model, 0)
    (shape,) = ((value.name, sample[value.name].shape) for value in onnx.load(model).graph.input)
    for capability in ARCHITECTURES:
        folder = tmp_path / capability
        artefact = compile_model(
            model, folder, find_target(f"cuda:{capability}"), dict([shape]), timeout=1200.0
        )
        (image,) = find_images((folder / "model.so").read_bytes())
        assert image.capability == capability
        assert [kernel["name"] for kernel in artefact.kernels] == list(image.kernels)
        assert max(kernel["registers"] for kernel in artefact.kernels) <= REGISTERS
        assert max(kernel["shared_bytes"] for kernel in artefact.kernels) <= 48 * 1024
        assert sum(kernel["spill_bytes"] for kernel in artefact.kernels) == 0
        record_property(f"kernels {capability}", json.dumps(artefact.kernels))
        if is_here(CAPABILITIES[capability].system):
            found = run_on_stand_in(folder, sample, tmp_path / f"stand_in_{capability}")
            check_close(found, answers(model, sample))
