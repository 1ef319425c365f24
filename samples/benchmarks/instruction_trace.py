"""Counts the instructions that a program for ARM executes, exactly, with qemu's own trace.

qemu runs a program in blocks without jumps. It is told to log the code of each block when it
translates it (`in_asm`), a line for each execution of a block (`exec`, with `nochain` so that none
is left out), and system calls (`strace`). The log goes through a pipe and is added up on the way. A
block is executed from its first instruction to its last, so that instructions are the sum of
executions times lengths. The static builds of qemu can do that; its plugins, which they cannot
load, are not needed.

The runners read the clock before and after each run of a model: these system calls in the log are
where the counting begins and ends.
"""

import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from crespr_onnx.targets.system import System, emulator

VECTOR = re.compile(r"\b(?:v\d+\.\d+[bhsd]|q\d+)\b|\{d\d+")
"""Registers of vectors: v0.4s and q0 on 64 bits; q0, and d0 in lists, on 32."""
MULTIPLY_ADDS = {"fmla", "fmls", "vfma.f32", "vfms.f32", "vmla.f32", "vmls.f32"}
CODE = re.compile(r"0x([0-9a-f]+): +(?:[0-9a-f]{8}|[0-9a-f]{4}(?: [0-9a-f]{4})?) +(.*)")
"""A line of a translated block: one word, or in Thumb code one or two halves."""
CLOCK = b"clock_gettime"
TARGETS = ("arm64", "armv7")


@dataclass(frozen=True)
class Block:
    """Instructions that are executed one after another.

    Attributes:
        address: of the first.
        code: their text, such as ``fmla v0.4s, v1.4s, v2.4s``.
    """

    address: int
    code: tuple[str, ...]


def trace(command: Sequence[str], system: System, timeout: float) -> list[Mapping[Block, int]]:
    """Run a program for another system and log what it executes.

    Args:
        command: the program and its arguments.
        system: what it was built for.
        timeout: seconds after which it is stopped.

    Returns:
        How often each block was executed between one reading of the clock and the next; the first
        is what comes before any, the last what comes after all.

    Raises:
        TimeoutError: it was stopped.
        RuntimeError: there is no emulator, or the program failed.
    """
    program = emulator(system)
    if program is None:
        raise RuntimeError(f"there is no {system.emulators[0]} here")
    end, log = os.pipe()
    options = ["-L", str(system.sysroot), "-d", "exec,nochain,in_asm,strace"]
    options += ["-D", f"/proc/self/fd/{log}"]
    # `timeout` ends qemu, and with it the log that is being read.
    with subprocess.Popen(
        ["timeout", f"{timeout}", str(program), *options, *command],
        env={**os.environ, "TVM_NUM_THREADS": "1"}, pass_fds=[log],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        os.close(log)
        with open(end, "rb") as lines:
            found = read_trace(lines)
        assert process.stderr is not None
        said = process.stderr.read().decode(errors="replace").strip()
    if process.returncode == 124:
        raise TimeoutError(f"stopped after {timeout:g} s")
    if process.returncode != 0:
        raise RuntimeError(f"exit code {process.returncode}: {said[-300:]}")
    return found


def read_trace(log: Iterable[bytes]) -> list[Mapping[Block, int]]:
    """Add up the lines of qemu's log; see `trace`."""
    windows: list[Counter[bytes]] = [Counter()]
    blocks: dict[bytes, Block] = {}
    code: list[tuple[int, str]] = []
    counts = windows[0]
    for line in log:
        if line.startswith(b"Trace "):
            counts[line] += 1
            if code:
                blocks[line] = Block(code[0][0], tuple(text for _, text in code))
                code = []
        elif line.startswith(b"0x"):
            address, text = CODE.fullmatch(line.decode().strip()).groups()
            code.append((int(address, 16), " ".join(text.split())))
        elif line.startswith(b"IN:"):
            code = []
        elif line.startswith(b"Stopped execution of TB chain before"):
            raise RuntimeError("a block was logged that was not executed")
        elif CLOCK in line:
            counts = Counter()
            windows.append(counts)
    return [{blocks[line]: count for line, count in window.items()} for window in windows]


def totals(window: Mapping[Block, int]) -> dict[str, int]:
    """Instructions, those on vectors, and those that multiply and add vectors."""
    return {
        "instructions": sum(len(block.code) * n for block, n in window.items()),
        "vector": sum(n * sum(map(_on_vectors, block.code)) for block, n in window.items()),
        "multiply_adds": sum(n * sum(map(_multiplies, block.code)) for block, n in window.items()),
    }


def _on_vectors(instruction: str) -> bool:
    return VECTOR.search(instruction) is not None


def _multiplies(instruction: str) -> bool:
    return instruction.split()[0] in MULTIPLY_ADDS and _on_vectors(instruction)
