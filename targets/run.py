"""Run a compiled model: needs this file, its neighbours model.so and artefact.json, and TVM.

    from run import load_artefact
    model = load_artefact("folder")
    outputs = model({"input": array})

Depends on numpy and apache-tvm alone (TVM_USE_RUNTIME_LIB=1 makes do with TVM's runtime library).
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LIBRARY = "model.so"
MANIFEST = "artefact.json"


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
        # TVM is slow to import, and loading a manifest should not wait for it.
        import tvm
        from tvm.runtime.vm import VirtualMachine

        self.inputs: list[dict[str, Any]] = manifest["inputs"]
        self.outputs: list[dict[str, Any]] = manifest["outputs"]
        library = tvm.runtime.load_module(str(Path(folder) / manifest["library"]))
        self._main = VirtualMachine(library, tvm.cpu())["main"]
        # Compiled code reads whole cache lines: it crashes on arrays that are not aligned to 64
        # bytes, as numpy's seldom are, so inputs are copied into memory that TVM allocated.
        self._buffers = [tvm.runtime.empty(i["shape"], i["dtype"]) for i in self.inputs]

    def set_inputs(self, inputs: Mapping[str, NDArray[Any]]) -> None:
        """Copy arrays into place, one for each input.

        Raises:
            ValueError: a name, shape or dtype is not the model's.
        """
        check_inputs(self.inputs, inputs)
        for spec, buffer in zip(self.inputs, self._buffers, strict=True):
            buffer.copyfrom(np.ascontiguousarray(inputs[spec["name"]]))

    def compute(self) -> list[Any]:
        """Run on the inputs that are in place; the results stay in TVM's memory."""
        result = self._main(*self._buffers)
        return [result] if hasattr(result, "numpy") else list(result)

    def __call__(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Outputs by name for a batch of inputs by name.

        Raises:
            ValueError: a name, shape or dtype is not the model's.
        """
        self.set_inputs(inputs)
        results = self.compute()
        return {
            spec["name"]: result.numpy() for spec, result in zip(self.outputs, results, strict=True)
        }


def load_artefact(folder: str | os.PathLike[str]) -> CompiledModel:
    """The compiled model in a folder, ready to be called with a dict of arrays."""
    return CompiledModel(folder)


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
