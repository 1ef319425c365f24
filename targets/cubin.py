"""Reading what a CUDA compiler made: device code in ELF files, and what each kernel uses."""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from crespr_onnx.errors import CompileError

EM_CUDA = 190
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_NEW_ABI = 8
"""From this version on, the capability is in the second byte of the flags, no longer the first."""

_ENTRY = re.compile(r"Compiling entry function '(\S+)' for '(\w+)'")
_STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_REGISTERS = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")


@dataclass(frozen=True)
class KernelUse:
    """What one kernel uses of a multiprocessor.

    Attributes:
        name: of the kernel.
        registers: per thread.
        shared_bytes: shared memory per block.
        stack_bytes: memory per thread beyond the registers.
        spill_bytes: of those, stores and loads for lack of registers.
    """

    name: str
    registers: int
    shared_bytes: int
    stack_bytes: int
    spill_bytes: int


@dataclass(frozen=True)
class Image:
    """Device code.

    Attributes:
        capability: such as ``sm_87``.
        kernels: names of its entry functions.
    """

    capability: str
    kernels: tuple[str, ...]


def read_image(data: bytes) -> Image:
    """What an ELF file of device code says of itself.

    Raises:
        CompileError: it is no such file.
    """
    if len(data) < _HEADER.size or data[:4] != b"\x7fELF":
        raise CompileError(f"the CUDA compiler gave {data[:8]!r}..., which is no ELF file")
    ident, _, machine, _, _, _, start, flags, *_, size, count, names = _HEADER.unpack_from(data)
    if machine != EM_CUDA:
        raise CompileError(
            f"the CUDA compiler gave an ELF file for machine {machine}; expected {EM_CUDA} (CUDA)"
        )
    capability = flags >> 8 & 0xFF if ident[8] >= _NEW_ABI else flags & 0xFF
    try:
        sections = [_SECTION.unpack_from(data, start + i * size) for i in range(count)]
        titles = [_text(data, sections[names][4] + section[0]) for section in sections]
    except (IndexError, ValueError, struct.error) as error:
        raise CompileError("the CUDA compiler gave a damaged ELF file") from error
    entries = (title.removeprefix(".text.") for title in titles if title.startswith(".text."))
    return Image(f"sm_{capability}", tuple(sorted(entries)))


def find_images(data: bytes) -> Iterator[Image]:
    """The device code in a library, wherever it lies there."""
    at = data.find(b"\x7fELF")
    while at >= 0:
        if len(data) >= at + _HEADER.size and _HEADER.unpack_from(data, at)[2] == EM_CUDA:
            yield read_image(data[at:])
        at = data.find(b"\x7fELF", at + 4)


def kernel_uses(log: str) -> tuple[KernelUse, ...]:
    """The use of each kernel, from what ``ptxas -v`` said."""
    parts = _ENTRY.split(log)
    uses = []
    for name, text in zip(parts[1::3], parts[3::3], strict=True):
        stack, used, shared = _STACK.search(text), _REGISTERS.search(text), _SHARED.search(text)
        if stack is None or used is None:
            raise CompileError(f"the CUDA compiler did not say what kernel {name!r} uses")
        frame, stores, loads = map(int, stack.groups())
        use = int(shared.group(1)) if shared else 0
        uses.append(KernelUse(name, int(used.group(1)), use, frame, stores + loads))
    return tuple(sorted(uses, key=lambda use: use.name))


def _text(data: bytes, start: int) -> str:
    return data[start : data.index(b"\0", start)].decode("ascii", "replace")
