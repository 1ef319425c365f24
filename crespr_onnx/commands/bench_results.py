"""How `bench` shows what it measured."""

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from crespr_onnx.commands.parameters import print_json
from crespr_onnx.terminal import make_console, make_table, print_error, printable

if TYPE_CHECKING:
    from rich.table import Table

    from crespr_onnx.bench.record import BenchReport, ModelRecord, Row, SubjectRecord

ENGINES = {"onnxruntime": "ONNX Runtime", "tvm": "TVM"}
BOUND = {"macs": "MACs", "bytes": "bytes"}


def show_bench(report: "BenchReport", as_json: bool) -> None:
    """A table per subject, what the floor is made of, and what was left out; or the JSON."""
    if as_json:
        print_json(report.to_dict())
    else:
        console = make_console(sys.stdout)
        for subject in report.subjects:
            for line in _title(subject):
                console.print(printable(line), soft_wrap=True)
            console.print()
            console.print(_table(subject, report.rows))
            console.print()
        for line in _remarks(report):
            console.print(printable(line), soft_wrap=True)
    for reason in report.reasons:
        print_error(reason)


def _title(subject: "SubjectRecord") -> Iterator[str]:
    yield subject.name
    for model in subject.models:
        yield f"  {model.name}: {_sizes(model)}"


def _sizes(model: "ModelRecord") -> str:
    from crespr_onnx.report import format_bytes

    macs = "MACs unknown" if model.macs is None else f"{model.macs:,} MACs"
    return f"{macs}, {format_bytes(model.weight_bytes)} of weights"


def _table(subject: "SubjectRecord", rows: "tuple[Row, ...]") -> "Table":
    reference = subject.models[0].name
    times = ("median", "quartiles", f"than {reference}", "floor", "above floor")
    titles = ("batch", "threads", "model", "engine", *times)
    table = make_table(*titles, numbers=("batch", "threads", *times))
    before = None
    for row in rows:
        if row.subject != subject.name:
            continue
        group = (row.batch, row.threads)
        table.add_row(
            *(("", "") if group == before else map(str, group)),
            printable(row.model),
            _engine(row),
            format_time(row.median_ms),
            _span(row.q1_ms, row.q3_ms),
            "" if _is_reference(row, reference) else _faster(row.speed_up),
            _floor(row),
            "?" if row.above_floor is None else f"{row.above_floor:.1f}x",
        )
        before = group
    return table


def _engine(row: "Row") -> str:
    name = ENGINES[row.engine]
    return name if row.device is None else printable(f"{name} on {row.device}")


def _is_reference(row: "Row", reference: str) -> bool:
    return row.model == reference and (row.engine == "onnxruntime" or row.device is not None)


def _floor(row: "Row") -> str:
    if row.floor_ms is None or row.bound_by is None:
        return "?"
    return f"{format_time(row.floor_ms)} ({BOUND[row.bound_by]})"


def _faster(speed_up: float) -> str:
    return f"{speed_up:.2f}x faster" if speed_up >= 1 else f"{1 / speed_up:.2f}x slower"


def format_time(milliseconds: float) -> str:
    """A time with three digits that count, in microseconds below a tenth of a millisecond."""
    if milliseconds < 0.1:
        return f"{1e3 * milliseconds:.3g} us"
    return f"{milliseconds:.3g} ms" if milliseconds < 1000 else f"{milliseconds:.0f} ms"


def _span(low: float, high: float) -> str:
    """Two times, with the unit once if they share it."""
    (first, unit), (second, other) = (format_time(time).split() for time in (low, high))
    return f"{first} - {second} {other}" if unit == other else f"{first} {unit} - {second} {other}"


def _remarks(report: "BenchReport") -> Iterator[str]:
    for peak in report.peaks:
        threads = f"{peak.threads} thread{'s' if peak.threads > 1 else ''}"
        bandwidths = ", ".join(
            f"{value:.0f} GB/s over {_size(footprint)}"
            for footprint, value in peak.gigabytes_per_s.items()
        )
        yield f"peak on {threads}: {peak.gflops:.0f} GFLOP/s, {bandwidths}"
    for method in dict.fromkeys(row.method for row in report.rows):
        threads = " and ".join(
            dict.fromkeys(str(row.threads) for row in report.rows if row.method == method)
        )
        yield f"{threads} thread{'' if threads == '1' else 's'}: {method}"
    for note in report.notes:
        yield f"note: {note}"


def _size(footprint: str) -> str:
    from crespr_onnx.report import format_bytes

    return format_bytes(int(footprint))
