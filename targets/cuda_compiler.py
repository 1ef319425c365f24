"""Compiling CUDA source to device code, with nvcc or with NVRTC; neither needs a GPU."""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from crespr_onnx.errors import CompileError
from crespr_onnx.targets.cubin import KernelUse, kernel_uses, read_image

SOURCE = "kernels.cu"
TIMEOUT_S = 600.0
MISSING = (
    "no CUDA compiler was found: install the CUDA toolkit 13 with nvcc, or "
    "pip install 'crespr-onnx[cuda]' for NVRTC, or use --target onnx"
)


@dataclass(frozen=True)
class DeviceCode:
    """Compiled kernels.

    Attributes:
        image: an ELF file of device code.
        compiler: name and version of what compiled it.
        uses: what each kernel uses.
    """

    image: bytes
    compiler: str
    uses: tuple[KernelUse, ...]


def find_compiler() -> str:
    """The name of the compiler to use, in `COMPILERS`.

    Raises:
        CompileError: there is none; the message says what to install.
    """
    if shutil.which("nvcc"):
        return "nvcc"
    if nvrtc_headers() is not None:
        return "nvrtc"
    raise CompileError(MISSING)


def nvrtc_headers() -> Path | None:
    """Where the headers from PyPI lie, if all that NVRTC needs is installed."""
    # find_spec of a dotted name imports the parents, and fails if there are none.
    if find_spec("cuda") is None or find_spec("cuda.bindings") is None:
        return None
    found = find_spec("nvidia")
    for folder in (found and found.submodule_search_locations) or ():
        root = Path(folder) / "cu13"
        if (root / "include" / "cccl").is_dir() and any(root.glob("lib/libnvrtc.so*")):
            return root / "include"
    return None


def compile_source(source: str, capability: str) -> DeviceCode:
    """Compile CUDA source for one compute capability.

    Raises:
        CompileError: no compiler is here, it refused, or what it made is not what was asked for.
    """
    code, log, version = COMPILERS[find_compiler()](source, capability)
    image = read_image(code)
    if image.capability != capability:
        raise CompileError(f"the CUDA compiler made code for {image.capability}, not {capability}")
    uses = kernel_uses(log)
    if {use.name for use in uses} != set(image.kernels):
        raise CompileError(f"the CUDA compiler did not say what all of {image.kernels} use")
    return DeviceCode(code, version, uses)


def compile_with_nvcc(source: str, capability: str) -> tuple[bytes, str, str]:
    """Device code, what the compiler said, and its name and version."""
    with tempfile.TemporaryDirectory(prefix="crespr-onnx-") as name:
        folder = Path(name)
        (folder / SOURCE).write_text(source, encoding="utf-8")
        options = ["--cubin", f"-arch={capability}", "-O3", "-std=c++17", "-Xptxas=-v"]
        said = _nvcc([*options, SOURCE, "-o", "kernels.cubin"], folder)
        found = re.search(r"release [\d.]+, V([\d.]+)", _nvcc(["--version"], folder))
        version = f"nvcc {found.group(1) if found else '?'}"
        return (folder / "kernels.cubin").read_bytes(), said, version


def _nvcc(arguments: list[str], folder: Path) -> str:
    try:
        done = subprocess.run(
            ["nvcc", *arguments], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, errors="replace", timeout=TIMEOUT_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise CompileError(f"nvcc did not end within {TIMEOUT_S:g} s") from error
    if done.returncode:
        raise CompileError(f"nvcc failed: {_first_error(done.stderr or done.stdout)}")
    return done.stdout + done.stderr


def compile_with_nvrtc(source: str, capability: str) -> tuple[bytes, str, str]:
    """The same with the compiler that is a library; its packages are on PyPI."""
    from cuda.bindings import nvrtc

    def call(function: Callable[..., tuple[object, ...]], *arguments: object) -> object:
        result, *values = function(*arguments)
        if result != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise CompileError(f"NVRTC failed: {result}")
        return values[0] if values else None

    headers = nvrtc_headers()
    options = [f"--gpu-architecture={capability}", f"-I{headers}", f"-I{headers}/cccl",
               "-std=c++17", "-default-device", "--ptxas-options=-v"]  # fmt: skip
    # The header of the driver is for the host, where none of this is compiled.
    lines = (line for line in source.splitlines() if line.strip() != "#include <cuda.h>")
    text = "\n".join(lines).encode()
    program = call(nvrtc.nvrtcCreateProgram, text, SOURCE.encode(), 0, [], [])
    coded = [option.encode() for option in options]
    (result,) = nvrtc.nvrtcCompileProgram(program, len(coded), coded)
    log = bytearray(int(str(call(nvrtc.nvrtcGetProgramLogSize, program))))
    call(nvrtc.nvrtcGetProgramLog, program, log)
    said = log.decode("utf-8", "replace").rstrip("\0")
    if result != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise CompileError(f"NVRTC failed: {_first_error(said) or result}")
    code = bytearray(int(str(call(nvrtc.nvrtcGetCUBINSize, program))))
    call(nvrtc.nvrtcGetCUBIN, program, code)
    _, major, minor = nvrtc.nvrtcVersion()
    return bytes(code), said, f"NVRTC {major}.{minor}"


def _first_error(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    wrong = [line for line in lines if "error" in line or "fatal" in line]
    return ([*wrong, *lines] or ["it said nothing"])[0][:200]


COMPILERS = {"nvcc": compile_with_nvcc, "nvrtc": compile_with_nvrtc}
