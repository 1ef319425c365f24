"""Compresses real models at several ratios and seeds, and records what came out.

Each run is a `crespr-onnx compress` of its own, so time and memory are those of a user. Records are
appended to a JSON-lines file; `tabulate_runs.py` makes the table from it.

    python samples/benchmarks/prepare_data.py --shared DIR --out DATA
    python samples/benchmarks/compress_runs.py --models MODELS --data DATA --cifar CIFAR \
        --only lenet5_mnist --out samples/benchmarks/results/runs.jsonl
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench_models import BENCH_MODELS, BenchModel, add_locations, locate

RATIOS = {
    "lenet5_mnist": (0.98, 0.90, 0.95, 0.99),
    "lenet5_fashion": (0.95,),
    "mlp_mnist": (0.95, 0.98),
    "resnet20_cifar": (0.90, 0.98),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_locations(parser)
    parser.add_argument("--only", choices=RATIOS, action="append")
    parser.add_argument("--ratios", type=float, nargs="*")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, required=True)
    arguments, more = parser.parse_known_args()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    for name in arguments.only or RATIOS:
        for ratio in arguments.ratios or RATIOS[name]:
            for seed in arguments.seeds:
                record = run(name, BENCH_MODELS[name], ratio, seed, arguments, more)
                with arguments.out.open("a") as out:
                    out.write(json.dumps(record) + "\n")
                print(json.dumps(record), flush=True)


def run(
    name: str,
    bench: BenchModel,
    ratio: float,
    seed: int,
    arguments: argparse.Namespace,
    more: list[str],
) -> dict[str, object]:
    model, train, evaluation = locate(bench, arguments)
    options = ["--ratio", str(ratio), "--seed", str(seed), "--target", "cpu",
               "--epochs", str(bench.epochs), "--batch-size", str(bench.batch_size),
               *image_options(bench), "--max-drop", "1", "--min-speedup", "0", *more]  # fmt: skip
    with tempfile.TemporaryDirectory() as output:
        command = [
            sys.executable, "-m", "crespr_onnx", "compress", str(model), "--data", str(train),
            "--eval-data", str(evaluation), "-o", output, "--json", "--quiet",
            "--threads", str(arguments.threads), *options,
        ]  # fmt: skip
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wall = time.perf_counter() - start
    if not done.stdout:
        sys.exit(done.stderr)
    report = json.loads(done.stdout)
    return {
        "benchmark": name,
        "command": " ".join(["crespr-onnx compress", bench.model, *options]),
        "threads": arguments.threads,
        "seed": seed,
        "status": report["status"],
        "reasons": report["reasons"],
        "ratio": report["ratio"],
        "metric": report["metric"],
        "latency_ms": report["latency_ms"],
        "verify": report["verify"],
        "clusters": max(layer["clusters"] for layer in report["layers"]),
        "layers": {layer["name"]: layer["weights_after"] for layer in report["layers"]},
        "wall_s": round(wall, 1),
        "peak_memory_mib": report["host"]["peak_memory_bytes"] // 2**20,
        "timings_s": report["timings_s"],
        "versions": report["versions"],
    }


def image_options(bench: BenchModel) -> list[str]:
    if bench.images is None:
        return []
    mean, std = (",".join(map(str, values)) for values in (bench.images.mean, bench.images.std))
    return ["--image-mean", mean, "--image-std", std]


if __name__ == "__main__":
    main()
