"""What is done in a session on another machine: running compiled models, and timing them.

Imports TVM: only processes of `worker` import this module.
"""

import json
from collections.abc import Mapping
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import rpc
from tvm.runtime.vm import VirtualMachine

from crespr_onnx.targets.run import MANIFEST, check_inputs

TIMED = "timed"
_BIG_CORES = 1
"""TVM's mode that prefers the fast ones among the cores of a board."""


class RemoteModel:
    """A compiled model in the memory of another machine, with its inputs in place."""

    def __init__(
        self, session: rpc.RPCSession, folder: Path, name: str, inputs: Mapping[str, NDArray[Any]]
    ) -> None:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        check_inputs(manifest["inputs"], inputs)
        session.upload(str(folder / manifest["library"]), target=f"{name}.so")
        devices = [session.cpu(0)]
        if manifest.get("device") == "cuda":
            devices.insert(0, session.cuda(0))
        self._device = devices[0]
        self._machine = VirtualMachine(session.load_module(f"{name}.so"), devices)
        self._outputs = [spec["name"] for spec in manifest["outputs"]]
        self._arguments = [
            tvm.runtime.tensor(np.ascontiguousarray(inputs[spec["name"]]), self._device)
            for spec in manifest["inputs"]
        ]

    def run(self) -> dict[str, NDArray[Any]]:
        """Outputs by name."""
        self._machine.set_input("main", *self._arguments)
        self._machine.invoke_stateful("main")
        found = self._machine.get_outputs("main")
        results = [found] if hasattr(found, "numpy") else list(found)
        return {name: result.numpy() for name, result in zip(self._outputs, results, strict=True)}

    def prepare_timing(self) -> None:
        """Bind the inputs to a function that can be called there again and again."""
        self._machine.save_function("main", TIMED, *self._arguments, include_return=False)

    def seconds(self, calls: int) -> float:
        """Mean time of one run, of so many that follow upon one that is not counted."""
        evaluator = self._machine.time_evaluator(TIMED, self._device, number=calls, repeat=1)
        return float(evaluator().mean)


def run_once(
    session: rpc.RPCSession, folder: Path, inputs: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """Outputs of a compiled model by name."""
    return RemoteModel(session, folder, "model", inputs).run()


def take_turns(
    session: rpc.RPCSession,
    folders: Mapping[str, str],
    inputs: Mapping[str, NDArray[Any]],
    threads: int,
    rounds: int,
    round_seconds: float,
) -> dict[str, list[float]]:
    """See `remote.time_remote`."""
    if threads > 1:
        session.get_function("runtime.config_threadpool")(_BIG_CORES, threads)
    models = {
        name: RemoteModel(session, Path(folder), f"model{i}", inputs)
        for i, (name, folder) in enumerate(folders.items())
    }
    calls: dict[str, int] = {}
    for name, model in models.items():
        model.prepare_timing()
        model.seconds(1)
        once = max(model.seconds(3), 1e-7)
        calls[name] = max(3, ceil(round_seconds / once))
    samples: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(rounds):
        for name, model in models.items():
            samples[name].append(1e3 * model.seconds(calls[name]))
    return samples
