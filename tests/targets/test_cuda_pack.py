import struct

import pytest

from crespr_onnx.errors import CompileError
from crespr_onnx.targets.cubin import EM_CUDA
from crespr_onnx.targets.cuda_compiler import DeviceCode
from crespr_onnx.targets.cuda_pack import check_library, put_code

SOURCE = "__global__ void k() {}"


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def packed(format_: bytes, code: bytes) -> bytes:
    """A library module, one of kernels, and what follows, as TVM packs them."""
    module = text(format_) + b"[functions]" + text(code)
    return text(text(b"_lib") + text(b"cuda") + text(module) + text(b"const_loader"))


def image(capability: int = 90) -> bytes:
    """A file of device code without sections but the one for names."""
    ident = b"\x7fELF\x02\x01\x01\x33\x08".ljust(16, b"\0")
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", ident, 2, EM_CUDA, 1, 0, 0, 64, capability << 8, 64, 0, 0, 64, 1, 0
    )
    section = struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, 128, 1, 0, 0, 1, 0)
    return header + section + b"\0"


def test_code_takes_the_place_of_its_source():
    code = image()
    assert put_code(packed(b"cuda", SOURCE.encode()), SOURCE, code) == packed(b"cubin", code)


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        packed(b"cuda", b"another source"),
        packed(b"ptx", SOURCE.encode()),
        packed(b"cuda", SOURCE.encode()).replace(b"[functions]", b"[too many functions]"),
    ],
)
def test_what_is_packed_otherwise_is_refused(blob):
    with pytest.raises(CompileError, match="TVM packs kernels in an unknown way; use --target onn"):
        put_code(blob, SOURCE, image())


def test_library_must_hold_the_code_and_no_source():
    code = DeviceCode(image(), "nvcc 13", ())
    check_library(b"host code" + code.image + b"more", SOURCE, code)
    with pytest.raises(CompileError, match="embeds CUDA source instead of compiled kernels"):
        check_library(b"host code" + SOURCE.encode() + code.image, SOURCE, code)
    for other in (b"host code", image(75), code.image + image(75)):
        with pytest.raises(CompileError, match="does not embed the kernels that were compiled for"):
            check_library(other, SOURCE, code)
