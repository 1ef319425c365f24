"""Run a compiled model: needs this file, its neighbours, numpy, and the package apache-tvm-ffi.

    from run import load_artefact
    model = load_artefact("folder")
    outputs = model({"input": array})

TVM's runtime is libtvm_runtime.so, which lies beside the model if it is for a board; else that of
the package apache-tvm is taken. Versions must be those in artefact.json.
"""

import ctypes
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LIBRARY = "model.so"
MANIFEST = "artefact.json"
RUNTIME = ("libtvm_runtime.so", "libtvm_runtime_extra.so")
"""The second one sorts; few models need it, and it lies beside those."""
CUDA_RUNTIME = "libtvm_runtime_cuda.so"
CUDA_LIBRARY = "libcudart.so.13"
"""What the runtime for CUDA devices loads, besides the driver's libcuda.so.1."""
ALIGNMENT = 64
"""Compiled code reads whole cache lines: it crashes on arrays that are not aligned to them."""


class CompiledModel:
    """A compiled model in memory.

    Attributes:
        inputs: name, shape and dtype of each input.
        outputs: name, shape and dtype of each output.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        manifest = json.loads((Path(folder) / MANIFEST).read_text(encoding="utf-8"))
        # TVM reads this once, when its thread pool starts.
        os.environ.setdefault("TVM_NUM_THREADS", str(manifest["threads"]))
        # Slow to import, and loading a manifest should not wait for it.
        import tvm_ffi

        self.inputs: list[dict[str, Any]] = manifest["inputs"]
        self.outputs: list[dict[str, Any]] = manifest["outputs"]
        self._on_cuda = manifest.get("device") == "cuda"
        _load_runtime(Path(folder), self._on_cuda)
        library = tvm_ffi.load_module(str(Path(folder).resolve() / manifest["library"]))
        machine = library["vm_load_executable"]()
        cpu, device, pooled = 1, 0, 2  # an allocator that keeps memory from run to run
        cuda = [2, 0, pooled] if self._on_cuda else []
        machine["vm_initialization"](*cuda, cpu, device, pooled)
        self._main = machine["main"]
        self._arrays = [_aligned(spec["shape"], spec["dtype"]) for spec in self.inputs]
        self._arguments = [
            tvm_ffi.from_dlpack(array, require_alignment=ALIGNMENT) for array in self._arrays
        ]
        if self._on_cuda:
            names = ("TVMTensorAllocWithScope", "TVMTensorCopyFromBytes", "TVMTensorCopyToBytes",
                     "Device_StreamSync")  # fmt: skip
            allocate, self._to_device, self._from_device, self._wait = (
                tvm_ffi.get_global_func(f"runtime.{name}") for name in names
            )
            self._device = tvm_ffi.device("cuda", 0)
            self._arguments = [
                allocate(tvm_ffi.Shape(i["shape"]), tvm_ffi.dtype(i["dtype"]), self._device, None)
                for i in self.inputs
            ]

    def set_inputs(self, inputs: Mapping[str, NDArray[Any]]) -> None:
        """Copy arrays into place, one for each input.

        Raises:
            ValueError: a name, shape or dtype is not the model's.
        """
        check_inputs(self.inputs, inputs)
        for spec, array in zip(self.inputs, self._arrays, strict=True):
            array[...] = inputs[spec["name"]]
        if self._on_cuda:
            for array, argument in zip(self._arrays, self._arguments, strict=True):
                self._to_device(argument, array.ctypes.data_as(ctypes.c_void_p), array.nbytes)

    def compute(self) -> list[Any]:
        """Run on the inputs that are in place; the results stay in TVM's memory."""
        result = self._main(*self._arguments)
        if self._on_cuda:
            self._wait(self._device, 0)
        return [result] if hasattr(result, "__dlpack__") else list(result)

    def __call__(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Outputs by name for a batch of inputs by name.

        Raises:
            ValueError: a name, shape or dtype is not the model's.
        """
        self.set_inputs(inputs)
        results = self.compute()
        # Copies: the next run may write to the same memory.
        return {
            spec["name"]: self._fetch(result, spec)
            for spec, result in zip(self.outputs, results, strict=True)
        }

    def _fetch(self, result: Any, spec: Mapping[str, Any]) -> NDArray[Any]:  # noqa: ANN401
        if not self._on_cuda:
            return np.from_dlpack(result).copy()
        array = np.empty(spec["shape"], spec["dtype"])
        self._from_device(result, array.ctypes.data_as(ctypes.c_void_p), array.nbytes)
        return array


def load_artefact(folder: str | os.PathLike[str]) -> CompiledModel:
    """The compiled model in a folder, ready to be called with a dict of arrays."""
    return CompiledModel(folder)


def _load_runtime(folder: Path, on_cuda: bool = False) -> None:
    """Make TVM's runtime known to the process; loading it again does nothing.

    Raises:
        FileNotFoundError: it is neither in the folder nor in a package.
        OSError: the driver for CUDA devices or CUDA's own runtime is missing.
    """
    places = [folder.resolve()]
    with suppress(PackageNotFoundError):
        places.append(Path(str(distribution("apache-tvm").locate_file("tvm/lib"))))
    if on_cuda:
        load_cuda()
    for name in (*RUNTIME, *([CUDA_RUNTIME] if on_cuda else [])):
        found = [place / name for place in places if (place / name).is_file()]
        if found:
            ctypes.CDLL(str(found[0]), ctypes.RTLD_GLOBAL)
        elif name != RUNTIME[1]:
            raise FileNotFoundError(f"no {name} in {folder}, nor the Python package apache-tvm")


def load_cuda() -> None:
    """Load CUDA's runtime, from the system or from the package that NVIDIA publishes of it.

    Raises:
        OSError: it is in neither, or does not load.
    """
    with suppress(OSError):
        ctypes.CDLL(CUDA_LIBRARY, ctypes.RTLD_GLOBAL)
        return
    with suppress(PackageNotFoundError, OSError):
        package = distribution("nvidia-cuda-runtime")
        ctypes.CDLL(str(package.locate_file(f"nvidia/cu13/lib/{CUDA_LIBRARY}")), ctypes.RTLD_GLOBAL)
        return
    raise OSError(f"no {CUDA_LIBRARY} here: install CUDA 13, or pip install nvidia-cuda-runtime")


def _aligned(shape: list[int], dtype: str) -> NDArray[Any]:
    """An array of zeros at a multiple of `ALIGNMENT` bytes."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.zeros(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def check_inputs(specs: list[dict[str, Any]], inputs: Mapping[str, NDArray[Any]]) -> None:
    """Hold inputs by name against a manifest's list of them.

    Raises:
        ValueError: a name, shape or dtype is not the model's.
    """
    if set(inputs) != {spec["name"] for spec in specs}:
        names = sorted(spec["name"] for spec in specs)
        raise ValueError(f"inputs are {sorted(inputs)}, but the model takes {names}")
    for spec in specs:
        array = np.asarray(inputs[spec["name"]])
        if list(array.shape) != spec["shape"] or str(array.dtype) != spec["dtype"]:
            raise ValueError(
                f"input {spec['name']!r} is {array.dtype}{list(array.shape)}, but the model "
                f"was compiled for {spec['dtype']}{spec['shape']}"
            )
