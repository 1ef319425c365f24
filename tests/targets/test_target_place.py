"""Where artefacts run, and what is said where something for that is missing."""

import sys
from pathlib import Path

import pytest

from crespr_onnx.errors import CompileError
from crespr_onnx.targets import find_target
from crespr_onnx.targets.board_runtime import fetch_runtime, find_runtime
from crespr_onnx.targets.compile import compile_model
from crespr_onnx.targets.emulate import run_program
from crespr_onnx.targets.link import run_compiler
from crespr_onnx.targets.place import Place, place_of
from crespr_onnx.targets.system import AARCH64, ARMV7, compiler

ARM64 = find_target("arm64")

pytestmark = pytest.mark.skipif(
    place_of(ARM64).ran == "here", reason="this machine is a board itself"
)


def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No program is found any more, nor ziglang."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("crespr_onnx.targets.system.find_spec", lambda _: None)


def test_this_machine_runs_what_is_made_for_it():
    assert place_of(find_target("cpu")) == Place("here")


def test_missing_emulator_is_named_with_its_packages(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    place = place_of(find_target("arm64:cortex-a53"))
    assert place.ran == "nowhere"
    assert place.remark == (
        "the artefact for arm64:cortex-a53 has not run: there is no qemu-aarch64-static with "
        "/usr/aarch64-linux-gnu here; apt-get install g++-aarch64-linux-gnu qemu-user-static"
    )


def test_missing_runtime_is_named_with_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("crespr_onnx.targets.place.emulator", lambda _: Path("qemu-aarch64"))
    assert place_of(find_target("arm64:cortex-a53")) == Place(
        "nowhere",
        "the artefact for arm64:cortex-a53 has not run: TVM's runtime for aarch64 is not here; "
        "get it with crespr-onnx targets --fetch arm64",
    )
    assert find_runtime(AARCH64) == {}


def test_missing_linker_is_an_error_that_says_what_to_install(monkeypatch):
    nothing_installed(monkeypatch)
    message = (
        r"none was found; pip install ziglang, or apt-get install g\+\+-aarch64-linux-gnu, "
        r"or use --target onnx"
    )
    with pytest.raises(CompileError, match=message):
        compiler(AARCH64)
    with pytest.raises(CompileError, match=r"none was found; install g\+\+ or clang, or use"):
        compiler(None)


def test_ziglang_links_where_there_is_no_cross_compiler(monkeypatch, tmp_path):
    pytest.importorskip("ziglang")
    monkeypatch.setenv("PATH", "/usr/bin:/nowhere")
    command = compiler(AARCH64)
    assert command == [sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-linux-gnu.2.28"]


def test_failing_linker_is_quoted(tmp_path):
    with pytest.raises(CompileError, match=r"linking the artefact failed: .*missing\.o"):
        run_compiler([*compiler(None), "-o", str(tmp_path / "x"), str(tmp_path / "missing.o")])


def test_artefact_that_has_not_run_is_delivered_with_the_reason(monkeypatch, tmp_path):
    from board_models import write_net

    monkeypatch.setattr("crespr_onnx.targets.place.emulator", lambda _: None)
    model = write_net("mlp", tmp_path)
    artefact = compile_model(model, tmp_path / "out", ARM64, {"x": (1, 40)})
    assert artefact.place.ran == "nowhere"
    assert set(artefact.files) >= {"model.so", "artefact.json", "run.py"}


def test_run_for_a_board_that_is_not_here_says_that_nothing_ran(monkeypatch, tmp_path):
    from board_models import write_net

    from crespr_onnx import pipeline
    from crespr_onnx.settings import CompressSettings

    monkeypatch.setattr("crespr_onnx.targets.place.emulator", lambda _: None)
    settings = CompressSettings(
        write_net("mlp", tmp_path), 0.7, "armv7:cortex-a7", output=tmp_path / "out", clusters=2,
        epochs=0, threads=1, min_speedup=0.0,
    )  # fmt: skip
    report = pipeline.compress(settings)
    assert (report.status, report.exit_code) == ("ok", 0)
    assert report.artefact is not None
    assert report.artefact.ran == "nowhere"
    assert report.latency_ms is not None
    assert report.latency_ms.compressed_tvm is None
    (reason,) = report.reasons
    assert reason == report.artefact.remark
    assert reason.startswith("the artefact for armv7:cortex-a7 has not run: there is no qemu-arm")


def test_program_that_cannot_be_emulated(monkeypatch):
    monkeypatch.setattr("crespr_onnx.targets.emulate.emulator", lambda _: None)
    with pytest.raises(CompileError, match="there is no qemu-aarch64-static here"):
        run_program(["run"], AARCH64, 1.0)


def test_failed_download_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    with pytest.raises(CompileError, match=r"cannot download apache-tvm==\S+ and apache-tvm-ffi"):
        fetch_runtime(AARCH64)
    assert find_runtime(AARCH64) == {}


def test_system_without_a_published_runtime():
    with pytest.raises(CompileError, match="TVM publishes no runtime for armv7l, and none is need"):
        fetch_runtime(ARMV7)
