"""Times the compiled models of one subject on another machine, through TVM's RPC."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from crespr_onnx.bench.artefact import artefact_for, compile_dense
from crespr_onnx.bench.subjects import Subject
from crespr_onnx.bench.timing import Engine, Timing, timing_of
from crespr_onnx.errors import CompileError
from crespr_onnx.stages.deliver import check_artefact
from crespr_onnx.targets.remote import Board, time_remote

METHOD = (
    "{board}, through TVM's RPC and by its own clock: turns of 20 ms, dense and compressed taking "
    "turns, both compiled by TVM; median and quartiles over turns"
)

Arrays = Mapping[str, NDArray[Any]]


def time_on_board(
    board: Board,
    subject: Subject,
    inputs: Arrays,
    threads: int,
    repeats: int,
    scratch: Path,
    notes: list[str],
) -> list[tuple[Engine, Timing]]:
    """Times the dense and the compressed model of a folder, both compiled for its target.

    Args:
        board: where to time them.
        subject: that of a folder with an artefact.
        inputs: one batch, by name.
        threads: threads of TVM's pool there.
        repeats: turns of each model.
        scratch: a temporary folder.
        notes: told if a model cannot be compiled for these inputs; then nothing is timed.

    Raises:
        CompileError: the board does not answer, or cannot run what was compiled.
        VerificationError: what was compiled computes something else there.
    """
    dense, compressed = subject.contestants[:2]
    try:
        compiled = compile_dense(subject, inputs, threads, scratch)
        artefact = artefact_for(subject, inputs, threads, scratch, board)
    except CompileError as error:
        notes.append(f"{subject.name}: nothing is timed on {board}: {error}")
        return []
    if artefact is None or compiled is None:
        return []
    check_artefact(compiled, dense.loaded.path, dict(inputs), board=board)
    folders = {dense.name: compiled, compressed.name: artefact}
    turns = time_remote(board, folders, inputs, threads, repeats)
    return [
        (Engine(name, folder, "tvm"), timing_of(turns[name], METHOD.format(board=board)))
        for name, folder in folders.items()
    ]
