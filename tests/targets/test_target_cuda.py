"""CUDA targets: names, what compiling without a GPU makes, and what is said when it cannot."""

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from board_models import NETS, answers, check_close, random_sample, write_net
from cuda_stand_in_run import run_on_stand_in, stand_in_environment

from crespr_onnx import pipeline
from crespr_onnx.errors import CompileError, UsageError
from crespr_onnx.record import Report
from crespr_onnx.settings import CompressSettings
from crespr_onnx.targets import find_target
from crespr_onnx.targets.check import run_artefact
from crespr_onnx.targets.compile import compile_model
from crespr_onnx.targets.cubin import find_images, kernel_uses, read_image
from crespr_onnx.targets.cuda import CAPABILITIES
from crespr_onnx.targets.cuda_compiler import COMPILERS, compile_source, find_compiler
from crespr_onnx.targets.cuda_gpu import obstacle
from crespr_onnx.targets.place import place_of
from crespr_onnx.targets.system import is_here

KERNEL = """extern "C" __global__ void twice(float* x) { x[threadIdx.x] *= 2.0f; }"""


def require_compiler(name: str | None = None) -> None:
    """Skips where no CUDA compiler, or not this one, is installed."""
    try:
        found = find_compiler()
    except CompileError as error:
        pytest.skip(str(error))
    if name == "nvcc" and found != "nvcc":
        pytest.skip("no nvcc here")
    if name == "nvrtc":
        from crespr_onnx.targets.cuda_compiler import nvrtc_headers

        if nvrtc_headers() is None:
            pytest.skip("NVRTC is not installed: pip install 'crespr-onnx[cuda]'")


def compress(model: Path, output: Path, target: str) -> Report:
    return pipeline.compress(
        CompressSettings(
            model, 0.7, target, output=output, clusters=2, epochs=0, threads=1, min_speedup=0.0
        )
    )


def test_cuda_alone_is_jetson_orin():
    target = find_target("cuda")
    assert target.tvm == find_target("cuda:sm_87").tvm
    assert target.tvm == {
        "kind": "cuda",
        "arch": "sm_87",
        "host": {"kind": "llvm", "mtriple": "aarch64-linux-gnu"},
    }


@pytest.mark.parametrize("name", CAPABILITIES)
def test_each_capability_has_its_host(name):
    target = find_target(f"cuda:{name}")
    assert (target.name, target.tvm["arch"]) == (f"cuda:{name}", name)
    assert target.system is CAPABILITIES[name].system
    on_arm = {"sm_87", "sm_110", "sm_121"}
    assert target.system.machine == ("aarch64" if name in on_arm else "x86_64")


@pytest.mark.parametrize("name", ["sm_72", "sm_53", "87", ""])
def test_other_capabilities_are_refused_with_the_reason(name):
    message = (
        rf"^unknown capability '{name}' of target 'cuda'; known capabilities: sm_75, sm_80, .*"
        r"\nCUDA 13, which TVM's runtime is built for, has none below sm_75\.$"
    )
    with pytest.raises(UsageError, match=message):
        find_target(f"cuda:{name}")


def test_missing_compiler_is_an_error_that_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("crespr_onnx.targets.cuda_compiler.find_spec", lambda _: None)
    message = (
        r"^no CUDA compiler was found: install the CUDA toolkit 13 with nvcc, or "
        r"pip install 'crespr-onnx\[cuda\]' for NVRTC, or use --target onnx$"
    )
    with pytest.raises(CompileError, match=message) as raised:
        compile_source(KERNEL, "sm_75")
    assert raised.value.exit_code == 8


@pytest.mark.parametrize("name", COMPILERS)
@pytest.mark.parametrize("capability", ["sm_75", "sm_87", "sm_90"])
def test_compilers_make_device_code(monkeypatch, name, capability):
    require_compiler(name)
    monkeypatch.setattr("crespr_onnx.targets.cuda_compiler.find_compiler", lambda: name)
    code = compile_source(KERNEL, capability)
    image = read_image(code.image)
    assert (image.capability, image.kernels) == (capability, ("twice",))
    (use,) = code.uses
    assert use.name == "twice"
    assert 0 < use.registers < 32
    assert (use.shared_bytes, use.stack_bytes, use.spill_bytes) == (0, 0, 0)
    assert code.image == compile_source(KERNEL, capability).image


@pytest.mark.parametrize(("name", "title"), [("nvcc", "nvcc"), ("nvrtc", "NVRTC")])
def test_what_a_compiler_refuses_is_quoted(monkeypatch, name, title):
    require_compiler(name)
    monkeypatch.setattr("crespr_onnx.targets.cuda_compiler.find_compiler", lambda: name)
    with pytest.raises(CompileError, match=rf'^{title} failed: .*error.*"nothing" is undefined'):
        compile_source("__global__ void wrong(float* x) { x[0] = nothing; }", "sm_75")


def test_images_that_are_no_device_code_are_refused():
    with pytest.raises(CompileError, match="which is no ELF file"):
        read_image(b"extern __global__")
    host = bytearray(64)
    host[:4], host[18:20] = b"\x7fELF", struct.pack("<H", 62)
    with pytest.raises(CompileError, match=r"for machine 62; expected 190 \(CUDA\)"):
        read_image(bytes(host))
    assert list(find_images(b"..." + bytes(host) + b"...")) == []


def test_use_of_kernels_is_read_from_the_log():
    log = (
        "ptxas info    : Compiling entry function 'second' for 'sm_90'\n"
        "ptxas info    : Function properties for second\n"
        "    16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads\n"
        "ptxas info    : Used 34 registers, used 1 barriers, 4560 bytes smem, 568 bytes cmem[0]\n"
        "ptxas info    : Compiling entry function 'first' for 'sm_90'\n"
        "ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n"
        "ptxas info    : Used 10 registers, used 0 barriers\n"
    )
    first, second = kernel_uses(log)
    assert (first.name, first.registers, first.shared_bytes, first.spill_bytes) == (
        "first", 10, 0, 0,
    )  # fmt: skip
    assert (second.registers, second.shared_bytes, second.stack_bytes, second.spill_bytes) == (
        34, 4560, 16, 20,
    )  # fmt: skip
    with pytest.raises(CompileError, match="did not say what kernel 'third' uses"):
        kernel_uses("Compiling entry function 'third' for 'sm_90'\n")


@pytest.mark.parametrize("capability", ["sm_75", "sm_87", "sm_90"])
def test_library_embeds_device_code_and_no_source(tmp_path, capability):
    require_compiler()
    model = write_net("lenet", tmp_path)
    shapes = {"x": (1, 1, 20, 20)}
    target = find_target(f"cuda:{capability}")
    artefact = compile_model(model, tmp_path / "out", target, shapes)
    library = (tmp_path / "out" / "model.so").read_bytes()
    source = (tmp_path / "out" / "kernels.cu").read_text()
    (image,) = find_images(library)
    assert image.capability == capability
    assert b"__global__" not in library
    assert library[18:20] == struct.pack("<H", 183 if capability == "sm_87" else 62)
    manifest = json.loads((tmp_path / "out" / "artefact.json").read_text())
    assert [kernel["name"] for kernel in manifest["kernels"]] == list(image.kernels)
    assert all(kernel["registers"] <= 64 for kernel in manifest["kernels"])
    assert all(kernel["spill_bytes"] == 0 for kernel in manifest["kernels"])
    assert all(f" {kernel}(" in source for kernel in image.kernels)
    assert manifest["needs"]["cuda"] == "libcudart.so.13"
    assert manifest["needs"]["driver"] == "libcuda.so.1 of driver 580 or newer"
    assert "libtvm_runtime_cuda.so" in manifest["needs"]["tvm"]
    assert set(artefact.files) >= {"model.so", "kernels.cu", "artefact.json", "run.py"}
    if capability == "sm_87":
        # The same bytes in another process.
        compile_model(model, tmp_path / "again", target, shapes)
        assert (tmp_path / "again" / "model.so").read_bytes() == library


def test_artefact_is_reported_as_compiled_and_not_run(tmp_path):
    require_compiler()
    if place_of(find_target("cuda:sm_90")).ran == "here":
        pytest.skip("there is a GPU for it here")
    report = compress(write_net("lenet", tmp_path), tmp_path / "out", "cuda:sm_90")
    artefact, latency = report.artefact, report.latency_ms
    assert (report.status, report.exit_code) == ("ok", 0)
    assert artefact is not None
    assert latency is not None
    assert (artefact.target, artefact.ran) == ("cuda:sm_90", "nowhere")
    reason = obstacle("sm_90")
    assert report.reasons == (f"the artefact for cuda:sm_90 was compiled, not run: {reason}",)
    assert latency.compressed_tvm is None
    assert artefact.needs["device"] == "compute capability 9.0"
    assert {"name", "registers", "shared_bytes", "spill_bytes"} <= set(artefact.kernels[0])
    page = (tmp_path / "out" / "report.html").read_text()
    assert "libcudart.so.13" in page
    assert str(artefact.kernels[0]["name"]) in page
    sample = random_sample(tmp_path / "out" / "model.onnx", 0)
    with pytest.raises(CompileError, match="the artefact for cuda:sm_90 does not run here: "):
        run_artefact(tmp_path / "out", sample)


def test_what_keeps_an_artefact_from_running():
    other = "sm_87" if is_here(CAPABILITIES["sm_75"].system) else "sm_75"
    assert str(obstacle(other)).startswith("this machine is ")


@pytest.mark.parametrize("name", NETS)
def test_kernels_compute_what_the_model_does(tmp_path, name):
    require_compiler()
    if not is_here(CAPABILITIES["sm_90"].system):
        pytest.skip("the stand-in is for x86-64")
    model = write_net(name, tmp_path)
    compress(model, tmp_path / "out", "cuda:sm_90")
    sample = random_sample(tmp_path / "out" / "model.onnx", 1)
    expected = answers(tmp_path / "out" / "model.onnx", sample)
    check_close(run_on_stand_in(tmp_path / "out", sample, tmp_path / "stand_in"), expected)


def test_stand_in_notices_threads_that_do_not_wait(tmp_path):
    """Otherwise it would say nothing of the kernels."""
    require_compiler()
    if not is_here(CAPABILITIES["sm_90"].system):
        pytest.skip("the stand-in is for x86-64")
    model = write_net("resnet", tmp_path)
    folder = tmp_path / "out"
    compile_model(model, folder, find_target("cuda:sm_90"), {"x": (1, 3, 16, 16)})
    sample = random_sample(model, 1)
    expected = answers(model, sample)
    check_close(run_on_stand_in(folder, sample, tmp_path / "right"), expected)
    source = (folder / "kernels.cu").read_text()
    assert "__syncthreads();" in source
    (folder / "kernels.cu").write_text(source.replace("__syncthreads();", ""))
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check_close(run_on_stand_in(folder, sample, tmp_path / "wrong"), expected)


def test_with_a_gpu_artefacts_are_run_checked_and_timed(tmp_path):
    """As far as the stand-in can tell: no GPU has been seen."""
    require_compiler()
    if not is_here(CAPABILITIES["sm_90"].system):
        pytest.skip("the stand-in is for x86-64")
    model = write_net("mlp", tmp_path)
    folder = tmp_path / "out"
    compile_model(model, folder, find_target("cuda:sm_90"), {"x": (1, 40)})
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from board_models import answers, check_close, random_sample\n"
        "from crespr_onnx.stages.deliver import check_artefact\n"
        "from crespr_onnx.targets import find_target\n"
        "from crespr_onnx.targets.check import time_artefact\n"
        "from crespr_onnx.targets.cuda_gpu import obstacle\n"
        "from crespr_onnx.targets.place import place_of\n"
        f"folder, model = Path({str(folder)!r}), Path({str(model)!r})\n"
        "sample = random_sample(model, 0)\n"
        "check_artefact(folder, model, sample)\n"
        "times = time_artefact(folder, {'dense': model}, sample, rounds=3, round_seconds=0.001)\n"
        "print(place_of(find_target('cuda:sm_90')).ran, '|', obstacle('sm_80'), '|', *times)\n"
        "print(min(times.values()) > 0)\n"
    )
    environment = stand_in_environment(folder, tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "here | the GPU here is sm_90 | dense compressed_tvm\nTrue\n"
