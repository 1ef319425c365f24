"""Running artefacts for CUDA devices on a stand-in for the device, its driver and its runtime.

It shows what the kernels compute and that TVM's runtime takes the artefact; it is no device.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

STAND_IN = Path(__file__).with_name("cuda_stand_in")
FLAGS = ["-std=c++17", "-O1", "-fPIC", "-shared"]


def build_stand_in(folder: Path) -> Path:
    """The folder of ``libcuda.so.1`` and ``libcudart.so.13``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "versions").write_text("libcudart.so.13 { *; };\n")
    driver = folder / "libcuda.so.1"
    command = ["g++", *FLAGS, str(STAND_IN / "driver.cc"), "-ldl", "-o", str(driver)]
    subprocess.run([*command, f"-Wl,-soname,{driver.name}"], check=True)
    runtime = folder / "libcudart.so.13"
    subprocess.run(
        ["g++", *FLAGS, str(STAND_IN / "runtime.cc"), "-o", str(runtime),
         f"-Wl,-soname,{runtime.name}", f"-Wl,--version-script={folder / 'versions'}"],
        check=True,
    )  # fmt: skip
    return folder


def build_kernels(artefact: Path, folder: Path) -> Path:
    """The kernels of an artefact, compiled for this machine."""
    source = (artefact / "kernels.cu").read_text()
    # Host compilers want it the other way round.
    source = source.replace("__shared__ alignas(64)", "alignas(64) __shared__")
    found = re.findall(r"^extern \"C\" __global__ .*?\) (\w+)\((.*)\) \{$", source, re.MULTILINE)
    counts = "".join(
        f'  if (!strcmp(name, "{name}")) return {len(parameters.split(","))};\n'
        for name, parameters in found
    )
    counting = f'extern "C" int stand_in_parameters(const char* name) {{\n{counts}  return 0;\n}}\n'
    path = folder / "kernels.cc"
    path.write_text(f"#include <string.h>\n{source}\n{counting}")
    library = folder / "kernels.so"
    include = f"-I{STAND_IN / 'include'}"
    subprocess.run(["g++", *FLAGS, "-w", include, str(path), "-o", str(library)], check=True)
    return library


def stand_in_environment(artefact: Path, folder: Path) -> dict[str, str]:
    """Environment of a process that finds a GPU of capability 9.0 for this artefact only."""
    return {
        **os.environ,
        "LD_LIBRARY_PATH": str(build_stand_in(folder / "drivers")),
        "CUDA_STAND_IN_KERNELS": str(build_kernels(artefact, folder)),
    }


def run_on_stand_in(
    artefact: Path, inputs: Mapping[str, NDArray[Any]], folder: Path
) -> dict[str, NDArray[Any]]:
    """Outputs by name, computed by the artefact's own ``run.py``."""
    environment = stand_in_environment(artefact, folder)
    np.savez(folder / "in.npz", *inputs.values())
    code = (
        "import sys, numpy as np\n"
        "sys.modules['torch'] = None\n"
        f"sys.path.insert(0, {str(artefact)!r})\n"
        "from run import load_artefact\n"
        f"data = np.load({str(folder / 'in.npz')!r})\n"
        f"model = load_artefact({str(artefact)!r})\n"
        f"out = model({{n: data[f'arr_{{i}}'] for i, n in enumerate({list(inputs)!r})}})\n"
        f"np.savez({str(folder / 'out.npz')!r}, *out.values())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300
    )
    if done.returncode:
        raise AssertionError(f"exit code {done.returncode}: {done.stderr[-2000:]}")
    names = [
        spec["name"] for spec in json.loads((artefact / "artefact.json").read_text())["outputs"]
    ]
    with np.load(folder / "out.npz") as stored:
        return {name: stored[f"arr_{i}"] for i, name in enumerate(names)}
