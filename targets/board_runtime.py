"""TVM's runtime for boards: the libraries that a compiled model needs there.

They come out of the wheels that TVM publishes for the board's system, and are kept in the user's
cache, so that `compress` needs no network: ``crespr-onnx targets --fetch arm64`` gets them once.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from crespr_onnx.errors import CompileError
from crespr_onnx.targets.cuda import RUNTIME_LIBRARY
from crespr_onnx.targets.system import System

LIBRARIES = {
    "libtvm_runtime.so": ("apache-tvm", "tvm/lib/libtvm_runtime.so"),
    "libtvm_runtime_extra.so": ("apache-tvm", "tvm/lib/libtvm_runtime_extra.so"),
    RUNTIME_LIBRARY: ("apache-tvm", f"tvm/lib/{RUNTIME_LIBRARY}"),
    "libtvm_ffi.so": ("apache-tvm-ffi", "tvm_ffi/lib/libtvm_ffi.so"),
}
EXTRA = "libtvm_runtime_extra.so"
"""What models need that sort."""

TIMEOUT_S = 900.0


def runtime_folder(system: System) -> Path:
    """Where the libraries of a system are kept, one folder for each version of TVM."""
    # As in the XDG base directory specification.
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    versions = "-".join(map(version, ("apache-tvm", "apache-tvm-ffi")))
    return cache / "crespr-onnx" / f"tvm-{versions}-{system.machine}"


def find_runtime(system: System) -> Mapping[str, Path]:
    """The libraries of a system by file name; empty if they have not been fetched."""
    folder = runtime_folder(system)
    paths = {name: folder / name for name in LIBRARIES}
    return paths if all(path.is_file() for path in paths.values()) else {}


def needed_runtime(system: System, library: Path, cuda: bool = False) -> Mapping[str, Path]:
    """Those of the libraries of a system that a compiled model needs; empty if not fetched."""
    # Kernels find what sorts by its name, which is in their data.
    sorts = b"tvm.contrib." in library.read_bytes()
    optional = {EXTRA: sorts, RUNTIME_LIBRARY: cuda}
    return {name: path for name, path in find_runtime(system).items() if optional.get(name, True)}


def fetch_runtime(system: System) -> Mapping[str, Path]:
    """Download the libraries of a system (100 MB, of which 7 are kept), unless they are there.

    Raises:
        CompileError: TVM publishes none for the system, or the download failed.
    """
    if not system.wheels:
        raise CompileError(f"TVM publishes no runtime for {system.machine}, and none is needed")
    if found := find_runtime(system):
        return found
    folder = runtime_folder(system)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as scratch:
        _download(system, Path(scratch))
        for name, (package, inside) in LIBRARIES.items():
            (wheel,) = Path(scratch).glob(f"{package.replace('-', '_')}-*.whl")
            with (
                zipfile.ZipFile(wheel) as archive,
                archive.open(inside) as source,
                (Path(scratch) / name).open("wb") as target,
            ):
                shutil.copyfileobj(source, target)
            os.replace(Path(scratch) / name, folder / name)
    return find_runtime(system)


def _download(system: System, folder: Path) -> None:
    packages = dict.fromkeys(package for package, _ in LIBRARIES.values())
    wanted = [f"{package}=={version(package)}" for package in packages]
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
        "--no-input", "--no-deps", "--only-binary=:all:", "--platform", system.wheels,
        "--python-version", f"{sys.version_info.major}.{sys.version_info.minor}",
        "--dest", str(folder), *wanted,
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        raise CompileError(f"downloading TVM's runtime took more than {TIMEOUT_S:g} s") from error
    if done.returncode:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise CompileError(
            f"cannot download {' and '.join(wanted)} for {system.wheels}: "
            f"{(said or ['pip said nothing'])[-1][:200]}"
        )
