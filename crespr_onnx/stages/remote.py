"""Runs, checks and times what was compiled on the machine that it is for, through TVM's RPC."""

import tempfile
from pathlib import Path
from statistics import median

from crespr_onnx.graph.save import save_model
from crespr_onnx.record import RemoteLatency
from crespr_onnx.settings import CompressSettings
from crespr_onnx.stages.any_batch import as_declared
from crespr_onnx.stages.deliver import ARTEFACT_TOLERANCE, Arrays, check_artefact, compile_target
from crespr_onnx.stages.prepare import Prepared
from crespr_onnx.targets.artefact import Artefact
from crespr_onnx.targets.place import Place
from crespr_onnx.targets.remote import Board, time_remote

METHOD = (
    "on {board} through TVM's RPC, by its own clock: dense and compressed, both compiled by TVM "
    "for {target}, take turns of 20 ms; median over 21 turns"
)


def expected_on(board: Board, target: str) -> Place:
    """What the report says of where an artefact was run, should it fail there."""
    return Place("nowhere", f"the artefact for {target} has not run on {board}")


def place_on(board: Board, target: str) -> Place:
    """What the report says of where an artefact was run."""
    remark = (
        f"the artefact for {target} was run, checked and timed on {board}, beside the dense model "
        "compiled for it; times of ONNX Runtime are this machine's"
    )
    return Place("remote", remark)


def measure_on_board(
    board: Board,
    artefact: Artefact,
    model: Path,
    prepared: Prepared,
    settings: CompressSettings,
    sample: Arrays,
    tolerance: float = ARTEFACT_TOLERANCE,
) -> RemoteLatency:
    """Compares an artefact on a board with ONNX Runtime here, and times it beside the dense model.

    ONNX Runtime's times are from here, and no ratio holds across machines: so the dense model is
    compiled for the board as well, by the same compiler.

    Args:
        board: where to run it.
        artefact: the artefact to deliver.
        model: the file that it was compiled from.
        prepared: the dense model.
        settings: target and shapes.
        sample: a batch of one.
        tolerance: share of an output's largest value by which it may differ.

    Raises:
        VerificationError: an output differs.
        CompileError: the board does not answer, or cannot run what was compiled.
    """
    check_artefact(artefact.folder, model, sample, tolerance, board)
    with tempfile.TemporaryDirectory(prefix=".build-", dir=artefact.folder) as scratch:
        dense = as_declared(prepared.model, prepared)
        path = Path(scratch) / "dense.onnx"
        save_model(dense, path)
        compiled = compile_target(path, dense, prepared, settings, Path(scratch) / "dense")
        check_artefact(compiled.folder, path, sample, board=board)
        folders = {"dense": compiled.folder, "compressed": artefact.folder}
        times = {name: median(turns) for name, turns in time_remote(board, folders, sample).items()}
    return RemoteLatency(
        device=str(board),
        dense_tvm=times["dense"],
        compressed_tvm=times["compressed"],
        method=METHOD.format(board=board, target=settings.target),
    )
