"""Grouped bars of what `bench` measured."""

from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

from crespr_onnx.bench.record import BenchReport, Row
from crespr_onnx.errors import UsageError
from crespr_onnx.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES = (".png", ".svg", ".pdf")
WIDTH = 0.8
"""Share of a group's room that its bars take."""
ENGINES = {"onnxruntime": "ONNX Runtime", "tvm": "TVM"}


def check_plot(path: Path) -> None:
    """Finds before anything is timed what would keep a plot from being drawn.

    Raises:
        UsageError: another kind of file is asked for, its folder is missing, or matplotlib is.
    """
    if path.suffix not in SUFFIXES:
        known = ", ".join(SUFFIXES)
        raise UsageError(f"--plot {path} is none of the kinds that can be drawn: {known}")
    if not path.parent.is_dir():
        raise UsageError(f"--plot {path}: there is no folder {path.parent}; make it first")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "--plot needs matplotlib, which is not installed: pip install 'crespr-onnx[plot]'"
        ) from error


def draw(report: BenchReport, path: Path) -> None:
    """Draws the rows of a report: a panel per subject, a group of bars per batch and threads.

    Bars are medians in milliseconds on a logarithmic axis, whiskers quartiles, and a black line
    across each bar its floor; above is the speed-up over the reference.

    Raises:
        UsageError: the file cannot be written.
    """
    # Without pyplot there is no window, and nothing that must be closed.
    from matplotlib.figure import Figure

    panels = len(report.subjects)
    figure = Figure(figsize=(7.0, 1.0 + 3.6 * panels), layout="constrained")
    axes = figure.subplots(panels, 1, squeeze=False)[:, 0]
    for subject, panel in zip(report.subjects, axes, strict=True):
        _panel(panel, [row for row in report.rows if row.subject == subject.name])
        panel.set_title(subject.name, fontsize=10)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)


def _where(row: Row) -> str:
    return "" if row.device is None else f" on {row.device}"


def _panel(panel: "Axes", rows: list[Row]) -> None:
    groups = list(dict.fromkeys((row.batch, row.threads) for row in rows))
    series = list(dict.fromkeys((row.model, row.engine) for row in rows))
    width = WIDTH / len(series)
    lowest, floor = inf, None
    for i, (model, engine) in enumerate(series):
        own = [row for row in rows if (row.model, row.engine) == (model, engine)]
        places = [
            groups.index((row.batch, row.threads)) + (i - (len(series) - 1) / 2) * width
            for row in own
        ]
        bars = panel.bar(
            places,
            [row.median_ms for row in own],
            0.92 * width,
            yerr=[
                [row.median_ms - row.q1_ms for row in own],
                [row.q3_ms - row.median_ms for row in own],
            ],
            capsize=2,
            color=f"C{i}",
            label=f"{model}, {ENGINES[engine]}{_where(own[0])}",
        )
        panel.bar_label(bars, [f"{row.speed_up:.1f}x" for row in own], padding=2, fontsize=8)
        for place, row in zip(places, own, strict=True):
            if row.floor_ms is not None:
                ends = place - width / 2, place + width / 2
                (floor,) = panel.plot(ends, (row.floor_ms,) * 2, color="black", linewidth=1.2)
                lowest = min(lowest, row.floor_ms)
        lowest = min(lowest, *(row.median_ms for row in own))
    if floor is not None:
        floor.set_label("floor: MACs and bytes at peak")
    panel.set_yscale("log")
    panel.set_ylim(bottom=lowest / 2)
    panel.margins(y=0.12)
    panel.set_ylabel("ms per call")
    panel.set_xticks(
        range(len(groups)),
        [f"batch {batch}\n{n} thread{'s' if n > 1 else ''}" for batch, n in groups],
    )
    panel.legend(fontsize=8, frameon=False)
