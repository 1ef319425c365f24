"""The accuracy frontier: what several ways of pruning reach with the same number of weights.

    python samples/benchmarks/prepare_data.py --shared DIR --out DATA
    python samples/benchmarks/train_mlp.py --data DATA/mlp --out DATA/mlp.onnx
    OMP_NUM_THREADS=1 python samples/benchmarks/accuracy.py --models MODELS --data DATA \
        --cifar CIFAR --out samples/benchmarks/results/accuracy.jsonl

Appends one JSON line per model, ratio, method and seed as soon as it is done; what the file holds
already is not run again, so that a recording can be interrupted, extended, or shared out among
processes by --only. `accuracy_table.py` makes the table and the plot.

A method that cannot reach a ratio has null for its accuracy, and the reason. One thread each; the
same call gives the same accuracies on the same machine.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accuracy_methods import METHODS
from accuracy_methods.task import Task, open_task
from bench_models import BENCH_MODELS, add_locations, locate

from crespr_onnx import CresprError
from crespr_onnx.stages.ledger import Ledger

RATIOS = (0.90, 0.95, 0.98, 0.99, 0.995, 0.998)
KEY = ("model", "ratio", "method", "seed", "budget_epochs", "train_samples")
"""What makes a record another one."""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_locations(parser)
    parser.add_argument("--only", nargs="+", choices=BENCH_MODELS, default=list(BENCH_MODELS))
    parser.add_argument("--ratios", type=float, nargs="+", default=RATIOS)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, help="instead of those of bench_models.py")
    parser.add_argument("--train-samples", type=int, help="of the training data, by default all")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines")
    arguments = parser.parse_args(argv)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    done = recorded(arguments.out)
    for name in arguments.only:
        bench = BENCH_MODELS[name]
        epochs = bench.epochs if arguments.epochs is None else arguments.epochs
        wanted = [
            dict(zip(KEY, (name, ratio, method, seed, epochs, arguments.train_samples),
                     strict=True))
            for seed in arguments.seeds
            for ratio in arguments.ratios
            for method in arguments.methods
        ]  # fmt: skip
        missing = [key for key in wanted if tuple(key.values()) not in done]
        if not missing:
            continue
        files = locate(bench, arguments)
        with open_task(bench, files, epochs, arguments.train_samples) as task:
            for key in missing:
                line = json.dumps(record(key, task))
                with arguments.out.open("a") as out:
                    out.write(line + "\n")
                print(line, flush=True)


def recorded(path: Path) -> set[tuple[Any, ...]]:
    """The keys of all lines of a file."""
    if not path.exists():
        return set()
    lines = (json.loads(line) for line in path.read_text().splitlines())
    return {tuple(line[name] for name in KEY) for line in lines}


def record(key: dict[str, Any], task: Task) -> dict[str, Any]:
    """Runs one method once."""
    # What all methods share must not count in the time of the first one.
    dense, _ = task.dense_accuracy, task.lesson
    method = METHODS[key["method"]]
    start, worked = time.perf_counter(), time.process_time()
    accuracy, weights, reason = None, None, None
    try:
        outcome = method.run(task, key["ratio"], key["seed"])
        accuracy, weights = round(outcome.accuracy, 4), outcome.weights
    except CresprError as error:
        reason = str(error)
    return {
        **key,
        "accuracy": accuracy,
        "accuracy_dense": round(dense, 4),
        "weights": weights,
        "weights_dense": task.prepared.graph.weights,
        "epochs": task.epochs if method.trains else 0,
        "reason": reason,
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(time.process_time() - worked, 1),
        "versions": Ledger("", {}, 0).report.versions,
    }


if __name__ == "__main__":
    main()
