"""Compiling an ONNX model for a target."""

import json
import time
from collections.abc import Mapping
from pathlib import Path

from crespr_onnx.errors import CompileError
from crespr_onnx.targets.artefact import Artefact
from crespr_onnx.targets.place import place_of
from crespr_onnx.targets.process import call_worker
from crespr_onnx.targets.run import MANIFEST
from crespr_onnx.targets.target import Target


def compile_model(
    model: Path,
    folder: Path,
    target: Target,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    threads: int = 1,
    timeout: float = 600.0,
    records: Path | None = None,
) -> Artefact:
    """Compile a model with TVM; the same model gives the same bytes in any process.

    Args:
        model: an ONNX file with its constants folded.
        folder: receives ``model.so``, ``artefact.json`` and ``run.py``, each whole or not at all;
            for a board also TVM's runtime, if it has been fetched; for CUDA ``kernels.cu``.
        target: a target that compiles.
        input_shapes: shape of every input whose shape the model leaves open, the batch included.
        threads: number of threads that a run may use.
        timeout: seconds after which compiling is given up.
        records: tuning records to apply; see `tuning`.

    Raises:
        CompileError: TVM cannot import or compile the model; the node is named where known.
    """
    if not target.compiles:
        raise CompileError(f"nothing is compiled for target {target.name!r}")
    folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    job = {
        "job": "compile",
        "model": str(model.resolve()),
        "folder": str(folder.resolve()),
        "input_shapes": {name: list(shape) for name, shape in (input_shapes or {}).items()},
        "target": target.name,
        "threads": threads,
        "records": None if records is None else str(records.resolve()),
    }
    result, _ = call_worker(job, threads, timeout)
    files = {name: (folder / name).stat().st_size for name in result["files"]}
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    return Artefact(
        folder,
        files,
        time.perf_counter() - start,
        target,
        place_of(target),
        manifest.get("needs", {}),
        manifest.get("kernels", ()),
    )
