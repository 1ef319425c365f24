"""Whether what was timed is as fast as was asked for; the rule of `compress`, on measured rows."""

from collections.abc import Iterable, Sequence

from crespr_onnx.bench.record import Row, SubjectRecord
from crespr_onnx.errors import SpeedGateError
from crespr_onnx.record import Latency, RemoteLatency
from crespr_onnx.stages.gates import speed_up


def check_speed(
    subjects: Iterable[SubjectRecord], rows: Sequence[Row], least: float
) -> list[SpeedGateError]:
    """A failure for every model that is not fast enough at batch 1 on one thread.

    The best of its engines counts, against the reference in ONNX Runtime.
    """
    failures: list[SpeedGateError] = []
    for subject in subjects:
        reference, *others = (model.name for model in subject.models)
        for model in others:
            latency = _latency(subject.name, reference, model, rows)
            found = speed_up(latency)
            remote = latency.remote
            where = "in ONNX Runtime" if remote is None else f"compiled on {remote.device}"
            if found < least:
                who = subject.name if model == "compressed" else model
                failures.append(
                    SpeedGateError(
                        f"{who}: {found:.2f} times as fast as {reference} {where} at batch 1 on "
                        f"one thread; --min-speedup asks for {least:g}"
                    )
                )
    return failures


def _latency(subject: str, reference: str, model: str, rows: Sequence[Row]) -> Latency:
    decisive = [row for row in rows if (row.subject, row.batch, row.threads) == (subject, 1, 1)]
    times = {(row.model, row.engine): row.median_ms for row in decisive if row.device is None}
    away = {row.model: row for row in decisive if row.device is not None}
    remote = None
    if (found := away.get(model)) is not None:
        remote = RemoteLatency(
            found.device or "", away[reference].median_ms, found.median_ms, found.method
        )
    return Latency(
        batch=1,
        threads=1,
        dense_onnxruntime=times[reference, "onnxruntime"],
        compressed_onnxruntime=times[model, "onnxruntime"],
        compressed_tvm=times.get((model, "tvm")),
        method=rows[0].method,
        remote=remote,
    )
