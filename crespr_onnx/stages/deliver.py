"""Writes what a run delivers: the model with its marks, the compiled artefact, the modules."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from crespr_onnx.errors import CompileError, ModelError, VerificationError
from crespr_onnx.files import OutputFolder
from crespr_onnx.graph.accounting import stored_weights
from crespr_onnx.graph.latency import METHOD, time_models
from crespr_onnx.graph.random_inputs import input_shapes_for
from crespr_onnx.graph.save import DATA_SUFFIX, save_model
from crespr_onnx.graph.session import run
from crespr_onnx.layout import DROPPED, ChannelGraph, Layout
from crespr_onnx.layout_json import layout_to_json
from crespr_onnx.passes.fix_sizes import FixSizes
from crespr_onnx.passes.spec import check_compilable
from crespr_onnx.record import Latency
from crespr_onnx.settings import CompressSettings
from crespr_onnx.stages.any_batch import as_declared
from crespr_onnx.stages.prepare import Prepared, infer_shapes
from crespr_onnx.targets import find_target
from crespr_onnx.targets.artefact import Artefact
from crespr_onnx.targets.board_runtime import LIBRARIES
from crespr_onnx.targets.check import run_artefact, time_artefact
from crespr_onnx.targets.compile import compile_model
from crespr_onnx.targets.remote import Board, run_remote

MODEL = "model.onnx"
FLOAT32_MODEL = "model.float32.onnx"
"""The model before it went to another number format."""
FILES = (
    MODEL, MODEL + DATA_SUFFIX, FLOAT32_MODEL, FLOAT32_MODEL + DATA_SUFFIX,
    "model.so", "artefact.json", "run.py", *LIBRARIES,
    "libmodel.a", "tiny.h", "kernels.cu", "modules.json", "config.toml", "report.json",
    "report.html",
)  # fmt: skip
ARTEFACT = "model.so"
SCHEMA = "1"
ARTEFACT_TOLERANCE = 1e-4
FLOAT32 = "float32"

Arrays = dict[str, NDArray[Any]]


def write_model(
    model: ir.Model,
    prepared: Prepared,
    layout: Layout,
    settings: CompressSettings,
    folder: OutputFolder,
    name: str = MODEL,
) -> Path:
    """Writes a model with its marks among the metadata; the user's own metadata stays.

    Weights of more than 1 GiB go into model.onnx.data beside it.
    """
    delivered = as_declared(model, prepared)
    stored = stored_weights(model)
    delivered.metadata_props.update(
        {
            "crespr.schema": SCHEMA,
            "crespr.layout": layout_to_json(prepared.graph, layout),
            "crespr.ratio": f"{1.0 - stored / prepared.graph.weights:.6f}",
            "crespr.source_sha256": prepared.loaded.sha256,
            "crespr.version": version("crespr-onnx"),
            "crespr.seed": str(settings.seed),
        }
    )
    # Shapes between the nodes can be inferred again, and would be half of a very small file.
    for node in delivered.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape, value.type = None, None
    path = folder.file(name)
    save_model(delivered, path)
    return path


def describe_modules(graph: ChannelGraph, layout: Layout) -> str:
    """The content of modules.json: what of the input model each module has, and what is dropped.

    Per module the channels of each group, and per layer whose clusters select their inputs the
    input positions that the module reads; a layer that is not named reads all that is kept.
    What outputs read that are in no module, as their order stays, is `shared`.
    """
    free = [g for g in graph.groups if g.frozen is None]
    in_modules = {e.name for e in graph.edges if not graph.is_frozen(e.out_channels)}

    def channels(label: int) -> dict[str, list[int]]:
        return {
            g.name: np.flatnonzero(layout.labels[g.channels] == label).tolist()
            for g in free
            if (layout.labels[g.channels] == label).any()
        }

    def reads(cluster: int, *, modular: bool) -> dict[str, list[int]]:
        return {
            e.name: np.flatnonzero(selection[:, cluster] & layout.kept(e.in_channels)).tolist()
            for e in graph.edges
            if (selection := layout.selections.get(e.name)) is not None
            and cluster < selection.shape[1]
            and (e.name in in_modules) == modular
        }

    modules = [
        {"module": k, "channels": channels(k), "reads": reads(k, modular=True)}
        for k in range(int(layout.clusters.max(initial=1)))
    ]
    shared = {"reads": reads(0, modular=False)}
    content = {"modules": modules, "shared": shared, "dropped": channels(DROPPED)}
    return json.dumps(content, indent=1) + "\n"


def compile_target(
    path: Path, model: ir.Model, prepared: Prepared, settings: CompressSettings, folder: Path
) -> Artefact:
    """Compiles an emitted model for the target, for a batch of one.

    Raises:
        CompileError: if it cannot be compiled.
    """
    shapes = input_shapes_for(prepared.loaded.signature, 1, settings.input_shapes or None)
    static = model.clone()
    for value in static.graph.inputs:
        value.shape = ir.Shape(shapes[value.name or ""])
    infer_shapes(static)
    FixSizes()(static)  # what only the batch decides is known now
    try:
        check_compilable(static)
    except ModelError as error:
        raise CompileError(str(error)) from error
    return compile_model(path, folder, find_target(settings.target), shapes)


def check_artefact(
    folder: Path,
    model: Path,
    sample: Arrays,
    tolerance: float = ARTEFACT_TOLERANCE,
    board: Board | None = None,
) -> None:
    """Runs an artefact in a fresh process, an emulator, or on a board; compares with ONNX Runtime.

    Raises:
        VerificationError: if an output differs by more than this share of its largest value.
        CompileError: if the artefact does not run.
    """
    expected = run(model, sample)
    where = "" if board is None else f" on {board}"
    actual = run_artefact(folder, sample) if board is None else run_remote(board, folder, sample)
    for name, reference in expected.items():
        scale = max(float(np.abs(reference).max(initial=0.0)), 1e-12)
        worst = float(np.abs(reference - actual[name]).max(initial=0.0)) / scale
        if not worst <= tolerance:
            raise VerificationError(
                f"the compiled artefact's output '{name}'{where} differs from ONNX Runtime's by "
                f"{worst:.3g} of its largest value; at most {tolerance:g} is allowed"
            )


def measure_latency(
    dense: Path, compressed: Path, sample: Arrays, artefact: Artefact | None, float32: Path | None
) -> tuple[Latency, float | None]:
    """Times dense and compressed model, and the artefact, side by side on one thread.

    The artefact is not timed where it does not run on this machine as it is.

    Returns:
        The times of what is delivered, and that of the compressed model in float32, if given.
    """
    models = {"dense_onnxruntime": dense, "compressed_onnxruntime": compressed}
    if float32 is not None:
        models[FLOAT32] = float32
    if artefact is not None and artefact.place.ran == "here":
        times = time_artefact(artefact.folder, models, sample)
    else:
        times = {name: t.median_ms for name, t in time_models(models, sample).items()}
    latency = Latency(
        batch=1,
        threads=1,
        dense_onnxruntime=times["dense_onnxruntime"],
        compressed_onnxruntime=times["compressed_onnxruntime"],
        compressed_tvm=times.get("compressed_tvm"),
        method=METHOD,
    )
    return latency, times.get(FLOAT32)
