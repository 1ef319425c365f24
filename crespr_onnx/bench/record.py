"""What `bench` records: the content of its JSON document, schema 1.

Frozen dataclasses whose field names are the keys of the document, in its order.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

SCHEMA = 1


@dataclass(frozen=True)
class ModelRecord:
    """One model.

    Attributes:
        name: what its rows call it.
        path: where it was read.
        sha256: of its file.
        bytes: size of the file with its external data.
        macs: multiply-accumulates per sample (of the batch, if the model fixes one); None where
            they could not be counted.
        weight_bytes: size of the weights and biases of its layers.
    """

    name: str
    path: str
    sha256: str
    bytes: int
    macs: int | None
    weight_bytes: int


@dataclass(frozen=True)
class SubjectRecord:
    """Models that were compared with one another, the reference first."""

    name: str
    models: tuple[ModelRecord, ...]


@dataclass(frozen=True)
class Row:
    """Time of one model in one engine.

    Attributes:
        subject: name of what it was compared in.
        model: name of the model.
        engine: what ran it.
        batch: samples per call.
        threads: threads of the engine.
        median_ms: milliseconds per call, median over turns.
        q1_ms: first quartile.
        q3_ms: third quartile.
        turns: how many turns were timed.
        speed_up: median of the reference in ONNX Runtime, same batch and threads, over this one.
        floor_ms: least time that its MACs and bytes take at the machine's peak; None where MACs are
            not known.
        bound_by: which of them takes that long.
        above_floor: median_ms / floor_ms.
        method: how it was timed.
        device: the board that it was timed on, or None for this machine. There `speed_up` is over
            the compiled reference, and no floor is known.
    """

    subject: str
    model: str
    engine: Literal["onnxruntime", "tvm"]
    batch: int
    threads: int
    median_ms: float
    q1_ms: float
    q3_ms: float
    turns: int
    speed_up: float
    floor_ms: float | None
    bound_by: Literal["macs", "bytes"] | None
    above_floor: float | None
    method: str
    device: str | None = None


@dataclass(frozen=True)
class PeakRecord:
    """What the machine did at best.

    Attributes:
        threads: on so many threads.
        gflops: 10^9 float32 operations per second, a multiply-accumulate being two.
        gigabytes_per_s: by footprint in bytes: 10^9 bytes per second when so many are read again
            and again.
        method: how it was measured.
    """

    threads: int
    gflops: float
    gigabytes_per_s: Mapping[str, float]
    method: str


@dataclass(frozen=True)
class BenchReport:
    """A whole run; `notes` says what was left out and why."""

    status: Literal["ok", "failed"]
    exit_code: int
    reasons: tuple[str, ...]
    command: str
    versions: Mapping[str, str]
    host: Mapping[str, str | int]
    peaks: tuple[PeakRecord, ...]
    subjects: tuple[SubjectRecord, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The document as plain JSON values, `schema` first."""
        return {"schema": SCHEMA, **asdict(self)}
