"""Makes the tables of this folder's README from the records of the benchmark runs.

python samples/benchmarks/tabulate_runs.py samples/benchmarks/results/runs.jsonl
"""

import json
import sys
from collections import defaultdict
from pathlib import Path
from statistics import mean
from typing import Any

HEADER = (
    "model", "ratio asked", "stored weights", "physical ratio", "clusters", "accuracy by seed",
    "dense", "file", "speed, ONNX Runtime", "speed, TVM", "time", "start",
    "importing to verifying", "compiling and timing", "peak memory",
)  # fmt: skip
PREPARING = ("load", "cluster", "passes", "verify")
MEASURING = ("measure", "compile", "latency")


def main() -> None:
    groups: dict[tuple[str, float], list[dict[str, Any]]] = defaultdict(list)
    for line in Path(sys.argv[1]).read_text().splitlines():
        record = json.loads(line)
        groups[record["benchmark"], record["ratio"]["requested"]].append(record)
    print("| " + " | ".join(HEADER) + " |")
    print("|---" * len(HEADER) + "|")
    for key in sorted(groups):
        runs = sorted(groups[key], key=lambda run: run["seed"])
        print("| " + " | ".join(row(*key, runs)) + " |")


def row(name: str, ratio: float, runs: list[dict[str, Any]]) -> list[str]:
    first = runs[0]
    latency = [run["latency_ms"] for run in runs]
    onnx = mean(each["dense_onnxruntime"] / each["compressed_onnxruntime"] for each in latency)
    tvm = mean(each["dense_onnxruntime"] / each["compressed_tvm"] for each in latency)
    sizes = mean(run["ratio"]["bytes_after"] / run["ratio"]["bytes_before"] for run in runs)
    return [
        name,
        f"{ratio:g}",
        " / ".join(f"{run['ratio']['weights_after']:,}" for run in runs)
        + f" of {first['ratio']['weights_before']:,}",
        " / ".join(f"{run['ratio']['physical']:.4f}" for run in runs),
        " / ".join(str(run["clusters"]) for run in runs),
        " / ".join(f"{100 * run['metric']['compressed']:.2f}%" for run in runs),
        f"{100 * first['metric']['dense']:.2f}%",
        f"{100 * sizes:.1f}%",
        f"{onnx:.1f}x",
        f"{tvm:.1f}x",
        " / ".join(f"{run['wall_s']:.0f} s" for run in runs),
        " / ".join(f"{100 * (1 - share(run, 'total')):.0f}%" for run in runs),
        " / ".join(f"{100 * share(run, *PREPARING):.0f}%" for run in runs),
        " / ".join(f"{100 * share(run, *MEASURING):.0f}%" for run in runs),
        f"{max(run['peak_memory_mib'] for run in runs):,} MiB",
    ]


def share(run: dict[str, Any], *stages: str) -> float:
    """Share of the wall time, the start of the process included, that stages took."""
    return float(sum(run["timings_s"].get(stage, 0.0) for stage in stages) / run["wall_s"])


if __name__ == "__main__":
    main()
