"""What `worker` does of tuning.

Imports TVM: only processes of `worker` import this module.
"""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tvm
from numpy.typing import NDArray

from crespr_onnx.targets import find_target
from crespr_onnx.targets.build import cpu_options
from crespr_onnx.targets.link import link_library
from crespr_onnx.targets.remote import Board
from crespr_onnx.targets.rpc_session import open_session
from crespr_onnx.targets.tuning.contest import Arena
from crespr_onnx.targets.tuning.request import PROGRESS, Tuning
from crespr_onnx.targets.tuning.stand import build, hold_all
from crespr_onnx.targets.tuning.tune import Tuner, tuned_to_json
from crespr_onnx.targets.tvm_import import import_onnx

LIBRARY = "kernels.so"


def tune(folder: Path, job: dict[str, Any]) -> dict[str, Any]:
    """Search for faster kernels of a model; progress is told in a file of the job's folder."""
    shapes = {name: tuple(shape) for name, shape in job["input_shapes"].items()}
    module = import_onnx(Path(job["model"]), shapes)
    target, threads = find_target(job["target"]), job["threads"]
    board = None if job["board"] is None else Board(**job["board"])
    arena = Arena(cpu_options(target, threads), target.name, threads, board)
    request = Tuning(job["trials"], Path(job["records"]), job["seed"], board, job["limit_s"])

    def tell(done: float, detail: str) -> None:
        fresh = folder / f"{PROGRESS}.new"
        fresh.write_text(json.dumps({"done": done, "detail": detail}), encoding="utf-8")
        os.replace(fresh, folder / PROGRESS)

    return tuned_to_json(Tuner(module, arena, request, tell).run())


def contest(job: dict[str, Any], inputs: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Time kernels here; see `stand.hold_all`."""
    module, symbols = build(Path(job["module"]), job["target"])
    return {"microseconds": hold_all(job["groups"], module, symbols, tvm.cpu(), inputs)}


def contest_on_board(
    folder: Path, job: dict[str, Any], inputs: Mapping[str, NDArray[Any]]
) -> dict[str, Any]:
    """Time kernels on another machine, compiled and linked for it here."""
    module, symbols = build(Path(job["module"]), job["target"])
    system = find_target(job["target_name"]).system

    def link(path: str, objects: list[str], **_: Any) -> None:  # noqa: ANN401 - TVM's own options
        link_library(Path(path), objects, system)

    link.output_format = "so"  # type: ignore[attr-defined]  # which TVM reads
    with tempfile.TemporaryDirectory(prefix="crespr-onnx-") as scratch:
        path = Path(scratch) / LIBRARY
        module.export_library(str(path), fcompile=link)
        with open_session(folder, job, "time kernels") as session:
            session.upload(str(path), target=LIBRARY)
            loaded = session.load_module(LIBRARY)
            times = hold_all(job["groups"], loaded, symbols, session.cpu(0), inputs)
    return {"microseconds": times}
