"""What `--tune` gains: artefacts before and after tuning, and ONNX Runtime on the same model.

    OMP_NUM_THREADS=1 python samples/benchmarks/tuning.py --models MODELS \
        --out samples/benchmarks/results/tuning.jsonl
    python samples/benchmarks/tuning.py --table samples/benchmarks/results/tuning.jsonl

Every model is cut at once and without data (`--epochs 0`: speed does not depend on what the
weights are), compiled as it is, and tuned from scratch. Then the untuned artefact, the tuned one,
and ONNX Runtime on the compressed model take turns in one process, on one thread, at batch 1. The
least time of many short turns counts, as other work on the machine can only add to it. One JSON
line per model.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

import numpy as np
from json_lines import read_lines, show_line
from latency import CASES

from crespr_onnx import CompressSettings, compress
from crespr_onnx.graph.load import load_model
from crespr_onnx.graph.random_inputs import random_inputs
from crespr_onnx.targets import find_target
from crespr_onnx.targets.check import time_artefacts
from crespr_onnx.targets.compile import compile_model
from crespr_onnx.tuning_record import OWN_SCHEDULE

NAMES = ("lenet5_mnist", "cifar_resnet20", "cifar_resnet56")
ROUNDS, ROUND_S = 301, 0.003
COLUMNS = (
    "model", "kernels tuned", "candidates", "minutes", "ONNX Runtime, us", "untuned, us",
    "tuned, us", "untuned over ONNX Runtime", "tuned over ONNX Runtime", "gain",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, help="folder of trained .onnx files")
    parser.add_argument("--only", choices=CASES, nargs="+", default=NAMES)
    parser.add_argument("--ratio", type=float, default=0.98)
    parser.add_argument("--trials", type=int, default=32)
    parser.add_argument("--out", type=Path, help="JSON lines to append to")
    parser.add_argument("--table", type=Path, metavar="RECORDS", help="print their table instead")
    arguments = parser.parse_args()
    if arguments.table is not None:
        print(table(read_lines(arguments.table)))
        return
    if arguments.models is None:
        parser.error("give --models, or --table")
    for name in arguments.only:
        with tempfile.TemporaryDirectory() as folder:
            record = measure(name, arguments, Path(folder))
        show_line(record, arguments.out)


def measure(name: str, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Compresses and tunes a model in a folder, and times the result."""
    case = CASES[name]
    dense = case.locate(arguments.models, folder)
    output, untuned = folder / "compressed", folder / "untuned"
    start = time.monotonic()
    report = compress(
        CompressSettings(
            dense, arguments.ratio, target="cpu", epochs=0, clusters=case.clusters, threads=1,
            min_speedup=0.0, output=output, tune=arguments.trials,
            tuning_records=str(folder / "records.jsonl"),
        )
    )  # fmt: skip
    seconds = time.monotonic() - start
    if report.exit_code != 0 or report.tuning is None:
        sys.exit("; ".join(report.reasons))
    model = output / "model.onnx"
    sample = random_inputs(load_model(model).signature, np.random.default_rng(0))
    shapes = {key: array.shape for key, array in sample.items()}
    compile_model(model, untuned, find_target("cpu"), shapes)
    folders = {"untuned": untuned, "tuned": output}
    turns = time_artefacts(folders, {"onnxruntime": model}, sample, 1, ROUNDS, ROUND_S)
    return {
        "model": name,
        "ratio": arguments.ratio,
        "trials": arguments.trials,
        "seconds": round(seconds, 1),
        "timings_s": report.timings_s,
        "least_us": {key: round(1e3 * min(values), 3) for key, values in turns.items()},
        "median_us": {key: round(1e3 * median(values), 3) for key, values in turns.items()},
        "tuning": {**asdict(report.tuning), "records": ""},
        "versions": report.versions,
        "host": report.host,
    }


def table(records: list[Mapping[str, Any]]) -> str:
    """Markdown: a row per model, and the means."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    gains: dict[str, list[float]] = {"untuned": [], "tuned": []}
    for record in records:
        times, kernels = record["least_us"], record["tuning"]["kernels"]
        for key, values in gains.items():
            values.append(times["onnxruntime"] / times[key])
        changed = sum(kernel["winner"] != OWN_SCHEDULE for kernel in kernels)
        cells = (
            record["model"], f"{changed} of {len(kernels)}", record["tuning"]["measured"],
            f"{record['timings_s']['kernels'] / 60:.1f}", f"{times['onnxruntime']:.1f}",
            f"{times['untuned']:.1f}", f"{times['tuned']:.1f}", f"{gains['untuned'][-1]:.2f}x",
            f"{gains['tuned'][-1]:.2f}x", f"{times['untuned'] / times['tuned']:.2f}x",
        )  # fmt: skip
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    means = {key: f"{geometric_mean(values):.2f}x" for key, values in gains.items()}
    lines.append("")
    lines.append(
        f"Geometric mean over ONNX Runtime: {means['untuned']} untuned, {means['tuned']} tuned."
    )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
