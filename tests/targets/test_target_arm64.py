"""64-bit ARM: what is compiled for a board computes what ONNX Runtime computes, emulated."""

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from arm_assembly import arm64_assembly_of_a_convolution, instructions, loops_of
from board_models import NETS, answers, check_close, random_sample, require_emulation, write_net

from crespr_onnx import pipeline
from crespr_onnx.errors import CompileError
from crespr_onnx.record import Report
from crespr_onnx.settings import CompressSettings
from crespr_onnx.targets import find_target
from crespr_onnx.targets.check import run_artefact
from crespr_onnx.targets.compile import compile_model

DIGITS = Path(__file__).resolve().parents[2] / "samples" / "digits"
BOARD = {"model.so", "artefact.json", "run.py", "libtvm_runtime.so", "libtvm_ffi.so"}


def compress(model: Path, output: Path, target: str, ratio: float = 0.7) -> Report:
    return pipeline.compress(
        CompressSettings(
            model, ratio, target, output=output, clusters=2, epochs=0, threads=1, min_speedup=0.0
        )
    )


@pytest.mark.parametrize("name", NETS)
def test_compressed_model_computes_the_same_on_a_board(tmp_path, name):
    require_emulation("arm64")
    report = compress(write_net(name, tmp_path), tmp_path / "out", "arm64:cortex-a72")
    assert (report.status, report.exit_code) == ("ok", 0)
    for seed in range(3):
        sample = random_sample(tmp_path / "out" / "model.onnx", seed)
        expected = answers(tmp_path / "out" / "model.onnx", sample)
        check_close(run_artefact(tmp_path / "out", sample), expected)
    # The report says what a board needs, and that a time under emulation is none.
    artefact, latency = report.artefact, report.latency_ms
    assert artefact is not None
    assert latency is not None
    assert set(artefact.files) == BOARD
    assert dict(artefact.files) == {f: (tmp_path / "out" / f).stat().st_size for f in BOARD}
    assert (artefact.target, artefact.ran) == ("arm64:cortex-a72", "emulated")
    assert latency.compressed_tvm is None
    (reason,) = report.reasons
    assert re.match(r"the artefact for arm64:cortex-a72 was run under qemu-aarch64\S*, ", reason)
    assert reason.endswith("where its latency is that of no board: it was not measured")


@pytest.mark.slow
def test_digits_are_recognised_on_a_board(tmp_path):
    require_emulation("arm64")
    compress(DIGITS / "digits.onnx", tmp_path / "out", "arm64", ratio=0.5)
    (name,) = (value.name for value in onnx.load(tmp_path / "out" / "model.onnx").graph.input)
    with np.load(DIGITS / "eval.npz") as data:
        images = data[name][:20]
    for image in images:
        sample = {name: image[np.newaxis]}
        expected = answers(tmp_path / "out" / "model.onnx", sample)
        check_close(run_artefact(tmp_path / "out", sample), expected)


def test_library_is_for_the_board_and_needs_no_compiler_there(tmp_path):
    model = write_net("mlp", tmp_path)
    compile_model(model, tmp_path / "out", find_target("arm64:neoverse-n1"), {"x": (1, 40)})
    library = (tmp_path / "out" / "model.so").read_bytes()
    assert library[:5] == b"\x7fELF\x02"
    assert int.from_bytes(library[18:20], "little") == 183  # EM_AARCH64
    manifest = json.loads((tmp_path / "out" / "artefact.json").read_text())
    assert manifest["name"] == "arm64:neoverse-n1"
    assert manifest["target"]["mcpu"] == "neoverse-n1"
    assert manifest["target"]["mtriple"] == "aarch64-linux-gnu"


def test_model_that_sorts_gets_the_library_that_sorts(tmp_path):
    require_emulation("arm64")
    text = """<ir_version: 8, opset_import: ["" : 17]>
        g (float[4, 9] x) => (float[4, 3] values, int64[4, 3] indices)
        <int64[1] k = {3}> { values, indices = TopK (x, k) }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "top.onnx")
    artefact = compile_model(tmp_path / "top.onnx", tmp_path / "out", find_target("arm64"))
    assert set(artefact.files) == {*BOARD, "libtvm_runtime_extra.so"}
    sample = random_sample(tmp_path / "top.onnx", 0)
    check_close(run_artefact(tmp_path / "out", sample), answers(tmp_path / "top.onnx", sample))


def test_wrong_inputs_are_told_before_the_emulator_starts(tmp_path):
    compile_model(write_net("mlp", tmp_path), tmp_path, find_target("arm64"), {"x": (1, 40)})
    message = r"input 'x' is float32\[2, 40\].*compiled for float32\[1, 40\]"
    with pytest.raises(CompileError, match=message):
        run_artefact(tmp_path, {"x": np.zeros((2, 40), np.float32)})


def test_hot_loop_of_a_convolution_is_made_of_vector_multiply_adds():
    lines = arm64_assembly_of_a_convolution().splitlines()
    loops = [instructions(lines[start:end]) for start, end in loops_of(lines)]
    hot = max(loops, key=lambda loop: (loop.count("fmla"), -len(loop)))
    assert hot.count("fmla") >= 72, "32 channels by 3 x 3 taps: 8 vectors or more at each"
    assert hot.count("fmla") / len(hot) > 0.7
    assert not any(name.startswith("st") for name in hot), "what a register should hold"
    vectors = [line for line in lines if re.match(r"\s+fmla\s", line)]
    assert all(re.match(r"\s+fmla\s+v\d+\.4s,", line) for line in vectors)
    assert not any(re.match(r"\s+fmadd\s", line) for line in lines), "a scalar multiply-add"
