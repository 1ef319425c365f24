"""What a run records: the content of report.json, schema 1.

Frozen dataclasses whose field names are the keys of the file, in its order. A section that a run
did not reach is None, so a report is written on failure as well. Pure data: the pipeline fills it,
`crespr_onnx.report` writes and shows it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import PurePath
from typing import Any, Literal

import numpy as np

from crespr_onnx.tuning_record import TuningRecord

SCHEMA = 1


@dataclass(frozen=True)
class FileRecord:
    """A file that was read or written; sha256 and bytes are None where it could not be read."""

    path: str
    sha256: str | None = None
    bytes: int | None = None


@dataclass(frozen=True)
class ArtefactLayer:
    """The form that a split layer has in the artefact, where it is chosen apart from model.onnx's.

    Attributes:
        name: name of the node.
        form: its form, as in `LayerRecord`.
        reason: why it has this form.
    """

    name: str
    form: str
    reason: str


@dataclass(frozen=True)
class ArtefactRecord:
    """What was compiled.

    Attributes:
        path: its library.
        sha256: of the library.
        bytes: of the library.
        target: what it was compiled for.
        ran: whether it was run "here", "emulated", "remote" (by --rpc), or "nowhere".
        remark: what kept it from running or from being timed, or None.
        files: size in bytes of every file that the machine needs which runs it, by name.
        needs: what else that machine must have, such as a driver.
        kernels: for CUDA, what each kernel uses of a multiprocessor.
        layers: forms of the split layers; empty if they were not chosen by measurement.
    """

    path: str
    sha256: str
    bytes: int
    target: str
    ran: str
    remark: str | None
    files: Mapping[str, int]
    needs: Mapping[str, Any] = field(default_factory=dict)
    kernels: tuple[Mapping[str, Any], ...] = ()
    layers: tuple[ArtefactLayer, ...] = ()


@dataclass(frozen=True)
class Ratio:
    """How much smaller the model became.

    Attributes:
        requested: the physical ratio that was asked for.
        physical: 1 - weights_after / weights_before.
        weights_before: weights stored in the weighted edges of the input model.
        weights_after: the same of the emitted model; zeros that are stored count.
        macs_before: multiply-accumulates per sample in those edges of the input model.
        macs_after: the same of the emitted model.
        bytes_before: size of the input model's file and its external data.
        bytes_after: size of the emitted model's file.
        mac_requested: share of macs_before that had to go, or None if none was asked for.
    """

    requested: float
    physical: float
    weights_before: int
    weights_after: int
    macs_before: int
    macs_after: int
    bytes_before: int
    bytes_after: int
    mac_requested: float | None = None

    @property
    def mac_ratio(self) -> float:
        """1 - macs_after / macs_before; 0 where no layer's work is known."""
        return 1.0 - self.macs_after / self.macs_before if self.macs_before else 0.0


@dataclass(frozen=True)
class Metric:
    """Quality on the evaluation data; `drop` is dense - compressed, shares are in 0..1."""

    name: str
    dense: float
    compressed: float
    drop: float
    samples: int


@dataclass(frozen=True)
class RemoteLatency:
    """Milliseconds per call on another machine, measured side by side there.

    Attributes:
        device: where, as --rpc names it.
        dense_tvm: the input model, compiled for the same target.
        compressed_tvm: the artefact.
        method: how they were measured.
    """

    device: str
    dense_tvm: float
    compressed_tvm: float
    method: str


@dataclass(frozen=True)
class Latency:
    """Milliseconds per call, measured side by side; `method` says how they were measured.

    All but `remote` are of this machine, and must not be compared with those of another.
    """

    batch: int
    threads: int
    dense_onnxruntime: float
    compressed_onnxruntime: float
    compressed_tvm: float | None
    method: str
    remote: RemoteLatency | None = None


@dataclass(frozen=True)
class Verification:
    """How far the emitted model's outputs are from those of the model before it was split."""

    cases: int
    max_abs_diff: float
    max_rel_diff: float
    tolerance: float
    passed: bool


@dataclass(frozen=True)
class NarrowLayer:
    """A node of the emitted model with weights, or a product of activations.

    Attributes:
        name: name of the node.
        op: its operator.
        format: numbers that it is stored and computed in.
        reason: how, or why it stayed in float32.
    """

    name: str
    op: str
    format: str
    reason: str


@dataclass(frozen=True)
class NumberFormat:
    """The emitted model in narrower numbers, against the float32 model that it was made from.

    The differences are between the outputs of these two; the rest of the report is about the
    emitted model, so that its gates decide whether the loss is small enough.

    Attributes:
        name: float16 or int8.
        method: what converted it.
        calibration_samples: samples that the ranges of activations were measured on.
        cases: samples that outputs were compared on.
        max_abs_diff: largest absolute difference of any element of any output.
        max_rel_diff: the same, divided by the largest magnitude in that output.
        metric_float32: the report's metric for the float32 model.
        bytes_float32: size of the float32 model's file.
        latency_float32_ms: its time in ONNX Runtime, measured beside the others.
        artefact: form of the model that the artefact was compiled from.
        artefact_reason: why that one.
        layers: in which numbers each layer is.
    """

    name: str
    method: str
    calibration_samples: int
    cases: int
    max_abs_diff: float
    max_rel_diff: float
    metric_float32: float | None = None
    bytes_float32: int | None = None
    latency_float32_ms: float | None = None
    artefact: str | None = None
    artefact_reason: str | None = None
    layers: tuple[NarrowLayer, ...] = ()


@dataclass(frozen=True)
class LayerRecord:
    """One weighted edge of the input model and what became of it.

    Attributes:
        name: name of the node.
        op: its operator.
        weights_before: weights stored before.
        weights_after: weights stored after.
        clusters: blocks into which it was split; 1 is not split.
        form: lowering form, as in design.md.
        reason: why it has this form, or why it stayed dense.
    """

    name: str
    op: str
    weights_before: int
    weights_after: int
    clusters: int
    form: str
    reason: str


@dataclass(frozen=True)
class Report:
    """A whole run; see design.md, "report.json"."""

    status: Literal["ok", "failed"]
    exit_code: int
    reasons: tuple[str, ...] = ()
    command: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    host: Mapping[str, str | int] = field(default_factory=dict)
    timings_s: Mapping[str, float] = field(default_factory=dict)
    input: FileRecord | None = None
    output: FileRecord | None = None
    artefact: ArtefactRecord | None = None
    tuning: TuningRecord | None = None
    ratio: Ratio | None = None
    metric: Metric | None = None
    latency_ms: Latency | None = None
    verify: Verification | None = None
    number_format: NumberFormat | None = None
    layers: tuple[LayerRecord, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The document as plain JSON values, `schema` first.

        Numbers that are not finite become None: JSON has no word for them.

        Raises:
            TypeError: a value is of a type that JSON cannot hold; the message says where.
        """
        return {"schema": SCHEMA, **_plain(self, "report")}


def _plain(value: Any, where: str) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, PurePath):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    raise TypeError(
        f"{where} is a {type(value).__name__}; the report holds numbers, text, lists and mappings"
    )
