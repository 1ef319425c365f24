"""Reads what `bench` needs of a folder that `compress` wrote."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crespr_onnx.errors import ModelError, UsageError
from crespr_onnx.targets import find_target
from crespr_onnx.targets.place import place_of
from crespr_onnx.targets.remote import find_board
from crespr_onnx.targets.system import is_here
from crespr_onnx.targets.target import Target

REPORT = "report.json"
MODEL = "model.onnx"


@dataclass(frozen=True, eq=False)
class ResultFolder:
    """A folder of results.

    Attributes:
        path: the folder.
        dense: the model that was compressed, as the report names it.
        dense_sha256: of its file.
        target: name of the target.
        input_shapes: shape of inputs with dynamic axes besides the batch.
    """

    path: Path
    dense: Path
    dense_sha256: str
    target: str
    input_shapes: Mapping[str, tuple[int, ...]]

    @property
    def model(self) -> Path:
        """The compressed model."""
        return self.path / MODEL

    def find_dense(self) -> Path:
        """The dense model's file; a relative path is one from the working directory.

        Raises:
            ModelError: it is gone.
        """
        if not self.dense.is_file():
            raise ModelError(
                f"{self.path}: its dense model {self.dense} is not there; say where it is with "
                "--dense FILE"
            )
        return self.dense

    def timed_target(self, rpc: str | None = None) -> tuple[Target | None, str | None]:
        """The target whose artefact can be timed, or None and why there is none.

        For the target that compiles nothing there is nothing to say.

        Args:
            rpc: the board to time it on, or None for this machine.

        Raises:
            UsageError: nothing that can be sent to a board comes out for the target.
        """
        if rpc is not None:
            target = find_target(self.target)
            find_board(rpc, target)
            return target, None
        try:
            target = find_target(self.target)
        except UsageError as error:
            return None, f"{self.path}: no artefact is timed: {error}"
        if not target.compiles:
            return None, None
        on_cpu = target.tvm.get("kind") == "llvm" and is_here(target.system)
        if on_cpu or (target.tvm.get("kind") == "cuda" and place_of(target).ran == "here"):
            return target, None
        return None, (
            f"{self.path}: its artefact is for {target.name} and cannot be timed on this machine"
        )


def read_folder(path: Path) -> ResultFolder:
    """Reads the report of a run.

    Raises:
        UsageError: it is no folder of results, or one of a run that made no model.
    """
    try:
        document = json.loads((path / REPORT).read_text("utf-8"))
    except OSError as error:
        raise UsageError(
            f"{path}: {REPORT} cannot be read: {error.strerror or error}; give a folder that "
            "compress wrote, or a model"
        ) from error
    except ValueError as error:
        raise _not_ours(path, "it is not JSON") from error
    if not (path / MODEL).is_file():
        reasons = _list(document, "reasons")
        why = f" ({reasons[0]})" if reasons else ""
        raise UsageError(f"{path}: holds no {MODEL}: the run did not get that far{why}")
    source, config = _table(path, document, "input"), _table(path, document, "config")
    try:
        return ResultFolder(
            path=path,
            dense=Path(_text(source["path"])),
            dense_sha256=_text(source["sha256"]),
            target=_text(config["target"]),
            input_shapes={
                name: tuple(int(size) for size in shape)
                for name, shape in config.get("input_shape", {}).items()
            },
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _not_ours(path, f"its input or config is damaged ({error})") from error


def _table(path: Path, document: object, key: str) -> dict[str, Any]:
    value = document.get(key) if isinstance(document, dict) else None
    if not isinstance(value, dict):
        raise _not_ours(path, f"it has no {key}")
    return value


def _list(document: object, key: str) -> list[Any]:
    value = document.get(key) if isinstance(document, dict) else None
    return value if isinstance(value, list) else []


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value


def _not_ours(path: Path, what: str) -> UsageError:
    return UsageError(
        f"{path}: {REPORT} is not that of a run that got to its end: {what}; compress again with "
        "--force, or give the models themselves"
    )
