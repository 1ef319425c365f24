"""The systems that compiled models run on, and what this machine has to link and run for them."""

import platform
import shutil
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from crespr_onnx.errors import CompileError


@dataclass(frozen=True)
class System:
    """A kind of Linux system, other than perhaps this machine's.

    Attributes:
        machine: what `platform.machine` and the ELF headers' readers call its processor.
        triple: its name among compilers.
        zig: the same for ziglang, with the oldest C library that programs are to run on.
        emulators: programs that run its programs here, the first that is found.
        sysroot: where Debian's cross packages put its C library.
        packages: Debian packages that bring a cross compiler, that library and an emulator.
        wheels: its name among Python wheels, or "" if TVM publishes no runtime for it.
    """

    machine: str
    triple: str
    zig: str
    emulators: tuple[str, ...]
    sysroot: Path
    packages: str
    wheels: str = ""


AARCH64 = System(
    machine="aarch64",
    triple="aarch64-linux-gnu",
    zig="aarch64-linux-gnu.2.28",
    emulators=("qemu-aarch64-static", "qemu-aarch64"),
    sysroot=Path("/usr/aarch64-linux-gnu"),
    packages="g++-aarch64-linux-gnu qemu-user-static",
    wheels="manylinux_2_28_aarch64",
)
ARMV7 = System(
    machine="armv7l",
    triple="arm-linux-gnueabihf",
    zig="arm-linux-gnueabihf.2.28",
    emulators=("qemu-arm-static", "qemu-arm"),
    sysroot=Path("/usr/arm-linux-gnueabihf"),
    packages="g++-arm-linux-gnueabihf qemu-user-static",
)


def is_here(system: System | None) -> bool:
    """Whether programs for a system run on this machine as they are; None is this machine."""
    return system is None or (sys.platform == "linux" and platform.machine() == system.machine)


def emulator(system: System) -> Path | None:
    """The program that runs a system's programs here, if its C library is here as well."""
    if not (system.sysroot / "lib").is_dir():
        return None
    found = filter(None, map(shutil.which, system.emulators))
    return next(map(Path, found), None)


def archiver(system: System | None) -> list[str]:
    """The command ``ar`` for a system, of the same origin as its `compiler`."""
    command = compiler(system)
    if "ziglang" in command:
        return [sys.executable, "-m", "ziglang", "ar"]
    return ["ar"] if system is None or is_here(system) else [f"{system.triple}-ar"]


def compiler(system: System | None, *, program: bool = False, cxx: bool = False) -> list[str]:
    """The command that compiles and links C, or C++, for a system.

    For another system ziglang is taken before a cross compiler: its version is pinned with ours.
    Except for whole programs: for them it builds a C library first, which takes half a minute.

    Raises:
        CompileError: none is found; the message says what to install.
    """
    if system is None or is_here(system):
        either = ("g++", "clang++", "c++")
        names = either if cxx else ("gcc", "clang", "cc", *either)
        commands = [[name] for name in names if shutil.which(name)]
        missing = "install g++ or clang"
    else:
        zig = [sys.executable, "-m", "ziglang", "c++" if cxx else "cc", "-target", system.zig]
        cross = shutil.which(f"{system.triple}-{'g++' if cxx else 'gcc'}")
        commands = [zig] if find_spec("ziglang") else []
        if cross:
            commands.insert(0 if program else len(commands), [cross])
        missing = f"pip install ziglang, or apt-get install {system.packages.split()[0]}"
    if not commands:
        raise CompileError(
            "TVM needs a compiler to link the artefact, and none was found; "
            f"{missing}, or use --target onnx"
        )
    return commands[0]
