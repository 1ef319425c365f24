"""What tuning found, in a file that grows line by line and that later runs read.

A line holds for one kernel, one TVM target and one version of TVM. Of several lines for the same
the last one counts. Killed in the middle of a line, a run leaves one that is not read.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from crespr_onnx.errors import UsageError

SCHEMA = 1


@dataclass(frozen=True)
class Record:
    """The best that is known for a kernel.

    Attributes:
        kernel: the product that it computes (`products.to_text`), the structural hash of its
            function, or a hash of a whole model; never the values of weights.
        trials: how many candidates have been measured against our own schedule.
        ratio: its time over that of our own schedule, 1.0 where that one is the fastest; for a
            whole model None until it has been timed.
        tile: lanes, vectors and rows of the tile that it takes, or None.
        trace: decisions of MetaSchedule's, or None.
        kernels: for a whole model, what became of its kernels (`tuning_record.KernelRecord`).
    """

    kernel: str
    trials: int
    ratio: float | None
    tile: tuple[int, int, int] | None = None
    trace: list[Any] | None = field(default=None, hash=False)
    kernels: list[dict[str, Any]] | None = field(default=None, hash=False)


def read_records(path: Path, target: Mapping[str, Any]) -> dict[str, Record]:
    """The records of a file that hold for a target and this version of TVM, by kernel.

    Args:
        path: the file; one that does not exist holds none.
        target: of TVM, with the CPU that it is for.

    Raises:
        UsageError: the file cannot be read, or is none of records.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    # The last one is empty, or was cut off.
    documents = [_document(path, number, line) for number, line in enumerate(lines[:-1], 1)]
    owner = _owner(target)
    return {
        document["kernel"]: _record(document)
        for document in documents
        if document is not None and {key: document.get(key) for key in owner} == owner
    }


def append_records(path: Path, target: Mapping[str, Any], records: Iterable[Record]) -> None:
    """Add records to a file, each in one piece.

    Raises:
        UsageError: the file cannot be written.
    """
    lines = [json.dumps({**_owner(target), **_without_none(asdict(r))}) for r in records]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            # What was cut off before gets a line of its own.
            size = file.seek(0, os.SEEK_END)
            torn = size > 0 and os.pread(file.fileno(), 1, size - 1) != b"\n"
            for line in lines:
                file.write(b"\n" * torn + line.encode() + b"\n")
                torn = False
                file.flush()
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from error


def _owner(target: Mapping[str, Any]) -> dict[str, Any]:
    """For what a record holds."""
    plain = json.loads(json.dumps(dict(target), sort_keys=True))
    return {"schema": SCHEMA, "tvm": version("apache-tvm"), "target": plain}


def _without_none(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}


def _document(path: Path, number: int, line: bytes) -> dict[str, Any] | None:
    """A line's content; None for one that was cut off before another run went on."""
    try:
        document = json.loads(line)
    except ValueError:
        if line.startswith(b"{") or not line.strip():
            return None
        raise UsageError(
            f"{path}: line {number} is no tuning record; give a file that --tune N wrote"
        ) from None
    if not isinstance(document, dict) or "kernel" not in document:
        raise UsageError(
            f"{path}: line {number} is no tuning record; give a file that --tune N wrote"
        )
    return document


def _record(document: Mapping[str, Any]) -> Record:
    tile = document.get("tile")
    ratio = document.get("ratio")
    return Record(
        str(document["kernel"]),
        int(document.get("trials", 0)),
        None if ratio is None else float(ratio),
        None if tile is None else (int(tile[0]), int(tile[1]), int(tile[2])),
        document.get("trace"),
        document.get("kernels"),
    )
