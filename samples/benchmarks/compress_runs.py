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
from dataclasses import dataclass
from pathlib import Path

CIFAR_OPTIONS = ("--image-mean", ".485,.456,.406", "--image-std", ".229,.224,.225")


@dataclass(frozen=True)
class Benchmark:
    """A model with its data and the ratios to reach.

    Attributes:
        model: file name in the folder of models, or in that of the prepared data.
        data: folder of train.npz and eval.npz in the prepared data, or "cifar".
        ratios: physical ratios.
        options: further options of the command.
    """

    model: str
    data: str
    ratios: tuple[float, ...]
    options: tuple[str, ...] = ()


BENCHMARKS = {
    "lenet5_mnist": Benchmark("lenet5_mnist.onnx", "mnist", (0.98, 0.90, 0.95, 0.99)),
    "lenet5_fashion": Benchmark("lenet5_fashion.onnx", "fashion", (0.95,)),
    "mlp_mnist": Benchmark("mlp.onnx", "mlp", (0.95, 0.98)),
    "resnet20_cifar": Benchmark(
        "cifar_resnet20_jpegft_bn.onnx",
        "cifar",
        (0.90, 0.98),
        ("--epochs", "4", "--batch-size", "64", *CIFAR_OPTIONS),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="output of prepare_data.py")
    parser.add_argument("--cifar", type=Path, help="folder with train/<class> and test/<class>")
    parser.add_argument("--only", choices=BENCHMARKS, action="append")
    parser.add_argument("--ratios", type=float, nargs="*")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, required=True)
    arguments, more = parser.parse_known_args()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    for name in arguments.only or BENCHMARKS:
        benchmark = BENCHMARKS[name]
        for ratio in arguments.ratios or benchmark.ratios:
            for seed in arguments.seeds:
                record = run(name, benchmark, ratio, seed, arguments, more)
                with arguments.out.open("a") as out:
                    out.write(json.dumps(record) + "\n")
                print(json.dumps(record), flush=True)


def run(
    name: str,
    benchmark: Benchmark,
    ratio: float,
    seed: int,
    arguments: argparse.Namespace,
    more: list[str],
) -> dict[str, object]:
    model = arguments.models / benchmark.model
    if not model.exists():
        model = arguments.data / benchmark.model
    if benchmark.data == "cifar":
        train, evaluation = arguments.cifar / "train", arguments.cifar / "test"
    else:
        folder = arguments.data / benchmark.data
        train, evaluation = folder / "train.npz", folder / "eval.npz"
    options = ["--ratio", str(ratio), "--seed", str(seed), "--target", "cpu", *benchmark.options,
               "--max-drop", "1", "--min-speedup", "0", *more]  # fmt: skip
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
        "command": " ".join(["crespr-onnx compress", benchmark.model, *options]),
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


if __name__ == "__main__":
    main()
