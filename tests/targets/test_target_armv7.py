"""32-bit ARM, plain C without TVM: computes what ONNX Runtime computes, emulated."""

import json
import re
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from arm_assembly import armv7_assembly_of_a_convolution, instructions, loops_of
from board_models import NETS, answers, check_close, random_sample, require_emulation, write_net

from crespr_onnx import pipeline
from crespr_onnx.errors import CompileError
from crespr_onnx.settings import CompressSettings
from crespr_onnx.targets import find_target
from crespr_onnx.targets.check import run_artefact
from crespr_onnx.targets.compile import compile_model
from crespr_onnx.targets.emulate import build_program, run_program
from crespr_onnx.targets.system import ARMV7

DIGITS = Path(__file__).resolve().parents[2] / "samples" / "digits"
FILES = {"libmodel.a", "artefact.json", "tiny.h"}


@pytest.fixture(scope="module")
def mlp(tmp_path_factory) -> Path:
    """The MLP, with its artefact in out/."""
    folder = tmp_path_factory.mktemp("armv7")
    target = find_target("armv7:cortex-a9")
    compile_model(write_net("mlp", folder), folder / "out", target, {"x": (1, 40)})
    return folder


@pytest.mark.parametrize("name", NETS)
def test_compressed_model_computes_the_same_on_a_board(tmp_path, name):
    require_emulation("armv7")
    settings = CompressSettings(
        write_net(name, tmp_path), 0.7, "armv7", output=tmp_path / "out", clusters=2, epochs=0,
        threads=1, min_speedup=0.0,
    )  # fmt: skip
    report = pipeline.compress(settings)
    assert (report.status, report.exit_code) == ("ok", 0)
    for seed in range(3):
        sample = random_sample(tmp_path / "out" / "model.onnx", seed)
        expected = answers(tmp_path / "out" / "model.onnx", sample)
        check_close(run_artefact(tmp_path / "out", sample), expected)
    artefact = report.artefact
    assert artefact is not None
    assert dict(artefact.files) == {f: (tmp_path / "out" / f).stat().st_size for f in FILES}
    assert (artefact.target, artefact.ran) == ("armv7", "emulated")
    assert artefact.path == str(tmp_path / "out" / "libmodel.a")
    memory = json.loads((tmp_path / "out" / "artefact.json").read_text())["memory_bytes"]
    assert artefact.needs == {"memory": f"{memory:,} bytes beside the library"}


@pytest.mark.slow
def test_digits_are_recognised_on_a_board(tmp_path):
    require_emulation("armv7")
    model = DIGITS / "digits.onnx"
    (name,) = (value.name for value in onnx.load(model).graph.input)
    with np.load(DIGITS / "eval.npz") as data:
        images, labels = data[name][:20], data["labels"][:20]
    compile_model(model, tmp_path, find_target("armv7"), {name: (1, *images.shape[1:])})
    hits = 0
    for image, label in zip(images, labels, strict=True):
        sample = {name: image[np.newaxis]}
        found = run_artefact(tmp_path, sample)
        check_close(found, answers(model, sample))
        hits += int(next(iter(found.values())).argmax() == label)
    assert hits >= 19


def test_library_needs_nothing_but_the_c_library(mlp):
    require_emulation("armv7")
    program = build_program(mlp, ARMV7, mlp / "out" / "libmodel.a")
    read = ["arm-linux-gnueabihf-readelf", "-h", "-d", str(program)]
    header = subprocess.run(read, capture_output=True, text=True, check=True).stdout
    assert "ELF32" in header
    assert "hard-float ABI" in header
    needed = {line.split("[")[1].rstrip("]") for line in header.splitlines() if "NEEDED" in line}
    assert needed <= {"libc.so.6", "libm.so.6", "ld-linux-armhf.so.3", "libgcc_s.so.1"}


def test_manifest_says_how_much_memory_a_run_takes(mlp):
    manifest = json.loads((mlp / "out" / "artefact.json").read_text())
    assert (manifest["name"], manifest["library"]) == ("armv7:cortex-a9", "libmodel.a")
    assert manifest["target"]["mcpu"] == "cortex-a9"
    # The input of 40 floats and two outputs, of 6 and 64, have memory of their own.
    assert 4 * (40 + 6 + 64) < manifest["memory_bytes"] < 4096
    assert [spec["name"] for spec in manifest["outputs"]] == ["probabilities", "features"]


def test_same_model_gives_the_same_bytes(mlp, tmp_path):
    target = find_target("armv7:cortex-a9")
    compile_model(mlp / "mlp.onnx", tmp_path, target, {"x": (1, 40)})
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (mlp / "out" / name).read_bytes(), name


def test_runner_tells_wrong_inputs(mlp, tmp_path):
    require_emulation("armv7")
    program = str(build_program(mlp, ARMV7, mlp / "out" / "libmodel.a"))
    for array, message in [
        (np.zeros((1, 41), np.float32), "shape or type is not that of input x"),
        (np.zeros((1, 40)), "shape or type is not that of input x"),
        (np.asfortranarray(np.zeros((4, 10), np.float32)), "not an .npy file of numbers in C ord"),
    ]:
        np.save(tmp_path / "x.npy", array)
        with pytest.raises(CompileError, match=f"does not run under qemu-arm.*: error: {message}"):
            run_program([program, str(tmp_path / "x.npy")], ARMV7, 30.0)
    with pytest.raises(CompileError, match="no file for input x"):
        run_program([program], ARMV7, 30.0)


def test_operator_that_needs_the_runtime_of_tvm_is_refused(tmp_path):
    text = """<ir_version: 8, opset_import: ["" : 17]>
        g (float[4, 9] x) => (float[4, 3] values, int64[4, 3] indices)
        <int64[1] k = {3}> { values, indices = TopK (x, k) }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "top.onnx")
    with pytest.raises(CompileError, match=r"calls TVM\w+, which is in TVM's runtime"):
        compile_model(tmp_path / "top.onnx", tmp_path / "out", find_target("armv7"))
    assert not any((tmp_path / "out").iterdir())


def test_multiply_adds_are_fused_where_the_core_can():
    fused = armv7_assembly_of_a_convolution("cortex-a7").splitlines()
    loops = [instructions(fused[start:end]) for start, end in loops_of(fused)]
    hot = max(loops, key=lambda loop: (loop.count("vfma.f32"), -len(loop)))
    assert hot.count("vfma.f32") >= 36, "9 taps by 4 vectors or more"
    assert hot.count("vfma.f32") / len(hot) > 0.5
    assert not any(name.startswith("vst") for name in hot), "what a register should hold"
    assert "vmul.f32" not in hot
    assert any(re.match(r"\s+vfma\.f32\s+q", line) for line in fused)


def test_multiply_adds_are_no_calls_where_the_core_cannot_fuse():
    plain = instructions(armv7_assembly_of_a_convolution("cortex-a9").splitlines())
    assert "vfma.f32" not in plain
    assert plain.count("vmul.f32") >= 36
