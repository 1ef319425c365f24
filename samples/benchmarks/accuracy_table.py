"""Makes the tables and the plot of the accuracy frontier from the records of accuracy.py.

    python samples/benchmarks/accuracy_table.py samples/benchmarks/results/accuracy.jsonl \
        --plot samples/benchmarks/results/accuracy.png
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from accuracy_methods import METHODS
from bench_models import BENCH_MODELS
from numpy.typing import NDArray

Record = Mapping[str, Any]
MASKED = ("unstructured", "unstructured_in_clusters", "one_shot_magnitude")
"""Methods whose zeros are only counted as gone."""

ACCURACIES = (10, 50, 70, 80, 90, 95, 97, 98, 99, 99.5)
"""Ticks of the plot, in percent."""
LEAST_ERROR = 0.05


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("records", type=Path, help="JSON lines that accuracy.py wrote")
    parser.add_argument("--plot", type=Path, help="a PNG to write")
    arguments = parser.parse_args(argv)
    records = [json.loads(line) for line in arguments.records.read_text().splitlines()]
    groups = by_model(records)
    for group in groups:
        print(table(group), end="\n\n")
    if arguments.plot is not None:
        plot(groups, arguments.plot)


def by_model(records: Sequence[Record]) -> list[list[Record]]:
    """Records of one model and one effort each, in the order of the benchmark models."""
    groups: dict[tuple[Any, ...], list[Record]] = defaultdict(list)
    for record in records:
        groups[record["model"], record["budget_epochs"], record["train_samples"]].append(record)
    order = list(BENCH_MODELS)
    known = {name: order.index(name) if name in order else len(order) for name, *_ in groups}
    return [groups[key] for key in sorted(groups, key=lambda key: known[key[0]])]


def table(group: Sequence[Record]) -> str:
    """Markdown: a row per method, a column per ratio, and why cells are empty below."""
    ratios = sorted({r["ratio"] for r in group})
    lines = [title(group), ""]
    lines.append("| method | " + " | ".join(f"{100 * ratio:g}%" for ratio in ratios) + " |")
    lines.append("|---" * (len(ratios) + 1) + "|")
    for method in methods_of(group):
        cells = [cell(at(group, method, ratio)) for ratio in ratios]
        name = f"{method} (masked)" if method in MASKED else method
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    reasons = {(r["method"], r["reason"]): None for r in group if r["accuracy"] is None}
    lines += ["", *(f"- {method}: {reason}" for method, reason in reasons)] if reasons else []
    return "\n".join(lines)


def title(group: Sequence[Record]) -> str:
    """Model, dense accuracy and effort."""
    first = group[0]
    samples = "all" if first["train_samples"] is None else f"{first['train_samples']:,}"
    seeds = len({r["seed"] for r in group})
    return (
        f"**{first['model']}**: {first['weights_dense']:,} weights, dense "
        f"{100 * first['accuracy_dense']:.2f}%; {first['budget_epochs']} epochs on {samples} "
        f"training samples, {seeds} seed{'s' if seeds > 1 else ''}"
    )


def methods_of(group: Sequence[Record]) -> list[str]:
    """The methods that a group has records of, in the order of `METHODS`."""
    return [method for method in METHODS if any(r["method"] == method for r in group)]


def at(group: Sequence[Record], method: str, ratio: float) -> list[Record]:
    """Records of one cell."""
    return [r for r in group if r["method"] == method and r["ratio"] == ratio]


def cell(records: Sequence[Record]) -> str:
    """Mean and sample standard deviation over the seeds, in percent; a dash where there is none."""
    values = [100 * r["accuracy"] for r in records if r["accuracy"] is not None]
    if not values:
        return "-"
    spread = f" ± {stdev(values):.2f}" if len(values) > 1 else ""
    return f"{mean(values):.2f}{spread}"


def _from_accuracy(percent: NDArray[np.float64]) -> NDArray[np.float64]:
    return -np.log10(np.maximum(LEAST_ERROR, 100.0 - percent))


def _to_accuracy(height: NDArray[np.float64]) -> NDArray[np.float64]:
    return 100.0 - np.power(10.0, -height)


def plot(groups: Sequence[Sequence[Record]], path: Path) -> None:
    """Accuracy against the share of the weights that is stored, one panel per group."""
    import matplotlib.pyplot as plt  # heavy, and only needed here
    from matplotlib.ticker import FuncFormatter, NullLocator

    figure, panels = plt.subplots(
        1, len(groups), figsize=(4.2 * len(groups) + 2.2, 4), squeeze=False, layout="constrained"
    )
    for panel, group in zip(panels[0], groups, strict=True):
        for i, method in enumerate(METHODS):
            points = [at(group, method, ratio) for ratio in sorted({r["ratio"] for r in group})]
            good = [[r for r in p if r["accuracy"] is not None] for p in points]
            good = [p for p in good if p]
            if not good:
                continue
            panel.errorbar(
                [mean(100 * r["weights"] / r["weights_dense"] for r in p) for p in good],
                [mean(100 * r["accuracy"] for r in p) for p in good],
                [stdev(100 * r["accuracy"] for r in p) if len(p) > 1 else 0.0 for p in good],
                label=method,
                color=f"C{i}",
                marker="o",
                markersize=3,
                linewidth=2.2 if method == "crespr" else 1.0,
                linestyle="--" if method in MASKED else "-",
            )
        # The logarithm of the error: one-shot methods and the last tenth of a point on one axis.
        panel.set_yscale("function", functions=(_from_accuracy, _to_accuracy))
        panel.set_yticks(ACCURACIES)
        panel.yaxis.set_minor_locator(NullLocator())
        panel.axhline(100 * group[0]["accuracy_dense"], color="grey", linewidth=0.8)
        panel.set_xscale("log")
        panel.xaxis.set_minor_locator(NullLocator())
        panel.set_xticks(sorted({round(100 * (1 - r["ratio"]), 6) for r in group}))
        panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        panel.set_xlabel("stored weights, % of dense")
        panel.set_title(group[0]["model"], fontsize=10)
    panels[0][0].set_ylabel("accuracy, %")
    entries = {
        label: handle
        for panel in panels[0]
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        entries.values(),
        entries.keys(),
        loc="outside right center",
        fontsize=8,
        frameon=False,
    )
    figure.savefig(path, dpi=90)
    plt.close(figure)


if __name__ == "__main__":
    main()
