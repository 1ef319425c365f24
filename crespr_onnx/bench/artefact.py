"""Compiled artefacts for a batch size and a number of threads: the one at hand, or new ones."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from crespr_onnx.bench.subjects import Subject
from crespr_onnx.errors import CompileError, VerificationError
from crespr_onnx.graph.save import save_model
from crespr_onnx.stages.any_batch import as_declared
from crespr_onnx.stages.deliver import check_artefact
from crespr_onnx.stages.prepare import analyse_model
from crespr_onnx.targets.compile import compile_model
from crespr_onnx.targets.remote import Board
from crespr_onnx.targets.run import LIBRARY, MANIFEST

Arrays = Mapping[str, NDArray[Any]]


def artefact_for(
    subject: Subject, inputs: Arrays, threads: int, scratch: Path, board: Board | None = None
) -> Path | None:
    """The folder of an artefact for these inputs, or None if the subject has none to time.

    That of the subject's own folder if it was compiled for just this; else the model is compiled
    again, by the same compiler with the same settings, and checked against ONNX Runtime.

    Args:
        subject: whose second model is meant.
        inputs: one batch, by name.
        threads: threads that the artefact is to use.
        scratch: a temporary folder of the subject's own.
        board: where to check it, if not here.

    Raises:
        CompileError: it cannot be compiled, or what was compiled does not run.
        VerificationError: what was compiled does not compute what the model does.
    """
    if subject.folder is None or subject.target is None:
        return None
    shapes = _shapes(inputs)
    if _fits(subject.folder, shapes, threads):
        return subject.folder
    folder = scratch / f"artefact-{len(list(scratch.iterdir()))}"
    model = subject.contestants[1].loaded.path
    compile_model(model, folder, subject.target, shapes, threads)
    check_artefact(folder, model, dict(inputs), board=board)
    return folder


def compile_dense(subject: Subject, inputs: Arrays, threads: int, scratch: Path) -> Path | None:
    """The folder of an artefact of the reference, compiled as `artefact_for` compiles the other.

    Nothing has checked it yet. None if the subject has no artefact to time.

    Raises:
        CompileError: it cannot be compiled.
    """
    if subject.folder is None or subject.target is None:
        return None
    declared = scratch / "dense.onnx"
    if not declared.exists():
        prepared = analyse_model(subject.contestants[0].loaded.path)
        save_model(as_declared(prepared.model, prepared), declared)
    folder = scratch / f"dense-{len(list(scratch.iterdir()))}"
    compile_model(declared, folder, subject.target, _shapes(inputs), threads)
    return folder


def dense_artefact(subject: Subject, inputs: Arrays, threads: int, scratch: Path) -> Path | None:
    """What `compile_dense` gives, after it has run here.

    Raises:
        CompileError: it cannot be compiled, does not run, or computes something else.
    """
    folder = compile_dense(subject, inputs, threads, scratch)
    if folder is not None:
        try:
            check_artefact(folder, subject.contestants[0].loaded.path, dict(inputs))
        except VerificationError as error:  # of what nobody deploys: no reason to end a run
            raise CompileError(str(error)) from error
    return folder


def _shapes(inputs: Arrays) -> dict[str, tuple[int, ...]]:
    return {name: tuple(array.shape) for name, array in inputs.items()}


def _fits(folder: Path, shapes: Mapping[str, tuple[int, ...]], threads: int) -> bool:
    """Whether the artefact in a folder is one for these shapes and threads."""
    if not (folder / LIBRARY).is_file():
        return False
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        found = {spec["name"]: tuple(spec["shape"]) for spec in manifest["inputs"]}
        return manifest["threads"] == threads and found == shapes
    except (OSError, ValueError, KeyError, TypeError):
        return False
