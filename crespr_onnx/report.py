"""Writes and shows what a run recorded: report.json, report.html, the table on the terminal."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from crespr_onnx.files import write_atomic
from crespr_onnx.record import Latency, Report
from crespr_onnx.tuning_record import OWN_SCHEDULE, TuningRecord

if TYPE_CHECKING:
    from rich.console import Console

# Metrics that are shares of the samples, shown in percent.
SHARES = frozenset({"accuracy", "agreement"})


@dataclass(frozen=True)
class Comparison:
    """One line of the before/after table, as text; `worse` marks what a reader must not miss."""

    name: str
    before: str
    after: str
    change: str
    worse: bool = False


@dataclass(frozen=True)
class Bar:
    """One bar of the latency chart; `width` is its share of the longest."""

    name: str
    milliseconds: str
    width: float
    change: str
    worse: bool


def write_report(report: Report, folder: Path) -> None:
    """Writes report.json and report.html into a folder that exists, each whole or not at all.

    Raises:
        TypeError: the report holds a value that JSON cannot; nothing is written then.
    """
    document = json.dumps(report.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
    page = render_html(report)
    write_atomic(folder / "report.json", (document + "\n").encode())
    write_atomic(folder / "report.html", page.encode())


def render_html(report: Report) -> str:
    """The report as one HTML page that needs nothing else to be shown or printed."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"size": format_bytes, "difference": format_difference}
    source = Path(__file__).with_name("report.html.jinja").read_text("utf-8")
    return environment.from_string(source).render(
        report=report.to_dict(),
        comparisons=compare(report),
        bars=latency_bars(report.latency_ms) if report.latency_ms else [],
    )


def render_table(report: Report, console: "Console") -> None:
    """Prints the before/after table, or nothing where a run did not get that far."""
    from rich.markup import escape
    from rich.table import Table

    lines = compare(report)
    if not lines:
        return
    table = Table("", show_edge=False, pad_edge=False)
    for title in ("before", "after", "change"):
        table.add_column(title, justify="right")
    for line in lines:
        cells = (line.name, line.before, line.after, line.change)
        table.add_row(*map(escape, cells), style="yellow" if line.worse else None)
    console.print(table)


def compare(report: Report) -> list[Comparison]:
    """The lines of the before/after table, for the sections that the run reached."""
    lines: list[Comparison] = []
    if (ratio := report.ratio) is not None:
        for name, word, show, before, after in (
            ("weights", "fewer", _integer, ratio.weights_before, ratio.weights_after),
            ("MACs", "fewer", _integer, ratio.macs_before, ratio.macs_after),
            ("model file", "smaller", format_bytes, ratio.bytes_before, ratio.bytes_after),
        ):
            change = _factor(after, before, word, "more")
            lines.append(Comparison(name, show(before), show(after), change, after > before))
    if (latency := report.latency_ms) is not None:
        dense = format_milliseconds(latency.dense_onnxruntime)
        for bar in latency_bars(latency)[1:]:
            name = f"latency, {bar.name.removeprefix('compressed, ')}"
            lines.append(Comparison(name, dense, bar.milliseconds, bar.change, bar.worse))
        if (remote := latency.remote) is not None:
            first, then = remote.dense_tvm, remote.compressed_tvm
            times = format_milliseconds(first), format_milliseconds(then)
            change = _factor(then, first, "faster", "slower")
            name = f"latency on {remote.device}, TVM"
            lines.append(Comparison(name, *times, change, then > first))
    forms = Counter(layer.form for layer in report.layers if layer.clusters > 1)
    if forms:
        counts = ", ".join(f"{count} {form}" for form, count in forms.most_common())
        part = f"{forms.total()} of {len(report.layers)}"
        lines.append(Comparison("split layers", "dense", counts, part))
    if (tuning := report.tuning) is not None and tuning.ratio is not None:
        kept = "" if tuning.used else ", not kept"
        change = _factor(tuning.ratio, 1.0, "faster", "slower") + kept
        lines.append(Comparison("kernels, TVM", "untuned", f"{_tuned(tuning)} tuned", change))
    if (narrow := report.number_format) is not None:
        lines.append(Comparison("number format", "float32", narrow.name, ""))
    if (metric := report.metric) is not None:
        share = metric.name in SHARES
        before_after = (metric.dense, metric.compressed)
        was, now = (f"{x:.2%}" if share else f"{x:.5g}" for x in before_after)
        change = f"{-100 * metric.drop:+.2f} points" if share else f"{-metric.drop:+.3g}"
        lines.append(Comparison(metric.name, was, now, change))
    return lines


def _tuned(tuning: TuningRecord) -> str:
    """How many kernels are not our own schedule's any more, of those that were tried."""
    changed = sum(kernel.winner != OWN_SCHEDULE for kernel in tuning.kernels)
    return f"{changed} of {len(tuning.kernels)}"


def latency_bars(latency: Latency) -> list[Bar]:
    """The bars of the latency chart, dense first; factors are against the dense model.

    A compiled model that ONNX Runtime outruns is marked as worse even where it beats the dense one.
    """
    dense, onnxruntime = latency.dense_onnxruntime, latency.compressed_onnxruntime
    measured = {"dense, ONNX Runtime": dense, "compressed, ONNX Runtime": onnxruntime}
    changes = ["", _factor(onnxruntime, dense, "faster", "slower")]
    worse = [False, onnxruntime > dense]
    if (compiled := latency.compressed_tvm) is not None:
        measured["compressed, TVM"] = compiled
        change = _factor(compiled, dense, "faster", "slower")
        if compiled > onnxruntime:
            joint = "and" if compiled > dense else "but"
            change += f", {joint} {compiled / onnxruntime:.2f}x slower than ONNX Runtime"
        changes.append(change)
        worse.append(compiled > min(dense, onnxruntime))
    longest = max(measured.values())
    return [
        Bar(name, format_milliseconds(value), value / longest, change, bad)
        for (name, value), change, bad in zip(measured.items(), changes, worse, strict=True)
    ]


def format_bytes(size: int) -> str:
    """A size in decimal units, 364171 -> 364.2 kB."""
    if size < 1000:
        return f"{size} B"
    scaled = float(size)
    for unit in ("kB", "MB"):
        scaled /= 1000
        if scaled < 999.95:
            return f"{scaled:.1f} {unit}"
    return f"{scaled / 1000:.1f} GB"


def format_milliseconds(value: float) -> str:
    """A time with three digits that count."""
    return f"{value:.3f} ms" if value < 10 else f"{value:.1f} ms"


def format_difference(value: float | None) -> str:
    """A difference between two outputs; None stands for one that is not finite."""
    return "not finite" if value is None else f"{value:.2g}"


def _integer(value: int) -> str:
    return f"{value:,}"


def _factor(after: float, before: float, better: str, worse: str) -> str:
    if after == before:
        return "same"
    if 0 in (after, before):
        return "none left" if after == 0 else worse
    small, large = sorted((after, before))
    factor = f"{large / small:.1f}x" if large / small >= 2 else f"{large / small:.2f}x"
    return f"{factor} {worse if after > before else better}"
