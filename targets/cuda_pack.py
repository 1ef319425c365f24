"""Compiled kernels in place of their source, in what TVM packs into a library."""

import re
import struct

from crespr_onnx.errors import CompileError
from crespr_onnx.targets.cubin import find_images
from crespr_onnx.targets.cuda_compiler import DeviceCode


def _string(text: bytes) -> bytes:
    """As TVM writes it: behind its size, which has 64 bits like all sizes."""
    return struct.pack("<Q", len(text)) + text


_KIND, _FORMAT = _string(b"cuda"), _string(b"cubin")
_MODULE = re.compile(re.escape(_KIND) + rb"(?=.{8}" + re.escape(_KIND) + rb")", re.DOTALL)


def put_code(blob: bytes, source: str, image: bytes) -> bytes:
    """Put compiled kernels into what TVM packed, in place of their source.

    As TVM 0.27 writes it, the size of all that follows comes first. A module of kernels is its kind
    "cuda", the size of the rest of it, the format of its code, which is "cuda" for source, a table
    of functions, and the code.

    Raises:
        CompileError: the source is not there, or not as expected.
    """
    text = _string(source.encode())
    code = blob.find(text)
    end = code + len(text)
    for found in _MODULE.finditer(blob, 0, max(code, 0)):
        start = found.end() + 8
        if struct.unpack_from("<Q", blob, found.end()) == (end - start,):
            functions = blob[start + len(_KIND) : code]
            module = _FORMAT + functions + _string(image)
            return _string(blob[8 : found.end()] + _string(module) + blob[end:])
    raise CompileError("this version of TVM packs kernels in an unknown way; use --target onnx")


def check_library(library: bytes, source: str, code: DeviceCode) -> None:
    """Hold a library against what was compiled for it.

    Raises:
        CompileError: it embeds source, or other device code.
    """
    if source.encode() in library:
        raise CompileError("the artefact embeds CUDA source instead of compiled kernels")
    if list(find_images(library)) != list(find_images(code.image)) or code.image not in library:
        raise CompileError("the artefact does not embed the kernels that were compiled for it")
