"""The CUDA devices that models are compiled for, and what such a machine must have installed.

A compiled kernel runs on devices of the very capability it was compiled for and, on boards with a
graphics card, on later ones of the same major number; Jetson boards take their own only.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crespr_onnx.targets.system import AARCH64, System

X86_64 = System(
    machine="x86_64",
    triple="x86_64-linux-gnu",
    zig="x86_64-linux-gnu.2.28",
    emulators=("qemu-x86_64-static", "qemu-x86_64"),
    sysroot=Path("/usr/x86_64-linux-gnu"),
    packages="g++-x86-64-linux-gnu qemu-user-static",
    wheels="manylinux_2_28_x86_64",
)


@dataclass(frozen=True)
class Capability:
    """A compute capability.

    Attributes:
        name: as the compilers call it.
        boards: devices that have it.
        multiprocessors: of the largest of these; schedules plan for so many.
        system: what the processor beside the device runs.
    """

    name: str
    boards: str
    multiprocessors: int
    system: System = X86_64


_ALL = (
    Capability("sm_75", "T4, RTX 20", 40),
    Capability("sm_80", "A100", 108),
    Capability("sm_86", "A10, RTX 30", 72),
    Capability("sm_87", "Jetson Orin", 16, AARCH64),
    Capability("sm_89", "L4, RTX 40", 58),
    Capability("sm_90", "H100, H200", 132),
    Capability("sm_100", "B200", 148),
    Capability("sm_110", "Jetson Thor", 20, AARCH64),
    Capability("sm_120", "RTX 50", 170),
    Capability("sm_121", "DGX Spark", 48, AARCH64),
)
CAPABILITIES: Mapping[str, Capability] = {capability.name: capability for capability in _ALL}
DEFAULT = "sm_87"
"""What ``cuda`` alone means: the Jetson Orin boards."""

LOWEST = "CUDA 13, which TVM's runtime is built for, has none below sm_75"

RUNTIME_LIBRARY = "libtvm_runtime_cuda.so"
TOOLKIT_MAJOR = 13
DRIVER = 580
"""The first driver for Linux that runs programs made with CUDA 13."""


def tvm_target(name: str) -> dict[str, Any]:
    """The TVM target of a capability."""
    host = {"kind": "llvm", "mtriple": CAPABILITIES[name].system.triple}
    return {"kind": "cuda", "arch": name, "host": host}


def needs_of(name: str) -> dict[str, Any]:
    """What the machine that runs an artefact must have, by name and version."""
    return {
        "device": f"compute capability {name.removeprefix('sm_')[:-1]}.{name[-1]}",
        "boards": CAPABILITIES[name].boards,
        "machine": CAPABILITIES[name].system.machine,
        "driver": f"libcuda.so.1 of driver {DRIVER} or newer",
        "cuda": f"libcudart.so.{TOOLKIT_MAJOR}",
        "tvm": ["libtvm_runtime.so", RUNTIME_LIBRARY, "libtvm_ffi.so"],
    }
