"""Unit pruning by relevance beside three other criteria, on the toy data of arXiv 1912.08881.

    python samples/benchmarks/pruning_by_explaining.py --out RECORD.jsonl
    python samples/benchmarks/pruning_by_explaining.py --out RECORD.jsonl --table

For each data set one network is trained; then, for each seed, 10 reference samples of each class
are drawn, all 3,000 hidden units ranked by each criterion, and the lowest 1,000 removed at once,
without fine-tuning. What counts is the accuracy on the training data. Takes a quarter of an hour of
one core; what the record holds already is not repeated.
"""

import argparse
import copy
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from toy_classifiers import CLASSES, Training, draw, train

from crespr_onnx.layout import ChannelGraph
from crespr_onnx.stages.prepare import prepare_model
from crespr_onnx.training.importer import ImportedModel, import_model
from crespr_onnx.training.objective import Batch
from crespr_onnx.training.relevance.score import unit_relevance
from crespr_onnx.training.relevance.variant import Variant

REMOVED = 1000
REFERENCE_PER_CLASS = 10
PUBLISHED: Mapping[str, Mapping[str, float]] = {
    "moon": {"none": 99.90, "weight": 99.60, "gradient": 91.27, "taylor": 91.33, "lrp": 99.85},
    "circle": {"none": 100.0, "weight": 97.10, "gradient": 83.89, "taylor": 90.47, "lrp": 99.99},
    "mult": {"none": 94.95, "weight": 91.00, "gradient": 75.16, "taylor": 81.58, "lrp": 91.93},
}
"""Mean accuracy on the training data over 50 seeds, from the authors' log."""

Scores = list[torch.Tensor]
"""One score per unit of each hidden layer."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A trained network, and the same as the library imports it from ONNX."""

    network: nn.Sequential
    imported: ImportedModel
    graph: ChannelGraph


Criterion = Callable[[Subject, torch.Tensor, torch.Tensor], Scores]


def by_way_of_onnx(network: nn.Sequential) -> Subject:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        torch.onnx.export(
            network, (torch.zeros(1, 2),), str(path), dynamo=False, do_constant_folding=False,
            input_names=["points"], dynamic_axes={"points": {0: "n"}},
        )  # fmt: skip
        prepared = prepare_model(path)
    return Subject(network, import_model(prepared.model), prepared.graph)


def linear_layers(network: nn.Sequential) -> list[nn.Linear]:
    return [layer for layer in network if isinstance(layer, nn.Linear)]


def by_weight(subject: Subject, points: torch.Tensor, classes: torch.Tensor) -> Scores:
    """Sum of the sizes of a unit's weights, scaled to a sum of 1 for each layer."""
    sums = [layer.weight.detach().abs().sum(dim=1) for layer in linear_layers(subject.network)[:-1]]
    return [s / s.sum() for s in sums]


def _by_gradient(times_value: bool) -> Criterion:
    def score(subject: Subject, points: torch.Tensor, classes: torch.Tensor) -> Scores:
        values, x = [], points
        for layer in subject.network:
            x = layer(x)
            if isinstance(layer, nn.Linear):
                values.append(x)
        gradients = torch.autograd.grad(functional.cross_entropy(x, classes), values[:-1])
        terms = [v * g if times_value else g for v, g in zip(values, gradients, strict=False)]
        # The sum over samples comes before the size: what helps some and harms others cancels.
        sizes = [t.detach().sum(dim=0).abs() for t in terms]
        return [s / s.norm() for s in sizes]

    return score


def _by_relevance(variant: Variant) -> Criterion:
    def score(subject: Subject, points: torch.Tensor, classes: torch.Tensor) -> Scores:
        samples = [Batch((points,), (None,), classes)]
        found = unit_relevance(subject.imported, subject.graph, samples, variant)
        hidden = subject.graph.edges[:-1]
        sums = [torch.from_numpy(found[edge.out_channels]) for edge in hidden]
        return [s / s.sum() for s in sums]

    return score


CRITERIA: Mapping[str, Criterion] = {
    "weight": by_weight,
    "gradient": _by_gradient(times_value=False),
    "taylor": _by_gradient(times_value=True),
    "lrp": _by_relevance(Variant(by_score=True, any_input=True)),
    "lrp_from_one": _by_relevance(Variant(any_input=True)),
    "lrp_signed": _by_relevance(Variant()),
}


def pruned(network: nn.Sequential, scores: Scores) -> tuple[nn.Sequential, list[int]]:
    """A copy without the units of the lowest scores, and how many of each layer went."""
    lowest = torch.cat(scores).argsort(stable=True)[:REMOVED]
    gone = torch.zeros(sum(len(s) for s in scores), dtype=torch.bool)
    gone[lowest] = True
    masks = gone.split([len(s) for s in scores])
    result = copy.deepcopy(network)
    with torch.no_grad():
        for layer, mask in zip(linear_layers(result)[1:], masks, strict=True):
            layer.weight[:, mask] = 0.0
    return result, [int(mask.sum()) for mask in masks]


def accuracy(network: nn.Sequential, points: torch.Tensor, classes: torch.Tensor) -> float:
    """In percent."""
    with torch.no_grad():
        return 100.0 * float((network(points).argmax(dim=1) == classes).double().mean())


def run(args: argparse.Namespace) -> None:
    how = Training(args.network, args.steps, args.batch, args.average, args.third_relu)
    setting = {"network": how.seed, **{k: v for k, v in asdict(how).items() if k != "seed"}}
    known = read(args.out) if args.out.exists() else []
    for dataset in args.datasets:
        same = [r for r in known if (r | {"dataset": dataset, **setting}) == r]
        left = sorted(set(range(args.seeds)) - {r["seed"] for r in same})
        if not left:
            continue
        network, *data = train(dataset, how, args.cache)
        dense, subject = accuracy(network, *data), by_way_of_onnx(network)
        for seed in left:
            reference = draw(dataset, REFERENCE_PER_CLASS, seed)
            lines = []
            for criterion, score in CRITERIA.items():
                small, removed = pruned(network, score(subject, *reference))
                lines.append({
                    "dataset": dataset, **setting, "seed": seed, "criterion": criterion,
                    "dense": round(dense, 3), "pruned": round(accuracy(small, *data), 3),
                    "removed": removed,
                })  # fmt: skip
            with args.out.open("a") as record:
                record.writelines(json.dumps(line) + "\n" for line in lines)
        print(f"{dataset}, network {args.network}: dense {dense:.2f}%", flush=True)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def print_table(records: list[dict[str, Any]]) -> None:
    """Means and deviations over the seeds, above the authors' means."""
    columns = ("none", *CRITERIA)
    print("| data | network | steps | weights | seeds | " + " | ".join(columns) + " |")
    print("|" + "---|" * (len(columns) + 5))
    for dataset, figures in PUBLISHED.items():
        groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        for r in records:
            if r["dataset"] == dataset:
                key = (r["third_relu"], r["network"], r["steps"], r["average"])
                groups.setdefault(key, []).append(r)
        for (third_relu, network, steps, average), rows in groups.items():
            cells = [f"{rows[0]['dense']:.2f}"]
            for criterion in CRITERIA:
                values = np.array([r["pruned"] for r in rows if r["criterion"] == criterion])
                cells.append(f"{values.mean():.2f} ± {values.std():.2f}")
            which = f"{network}, third ReLU" if third_relu else str(network)
            kind = "mean" if average else "last"
            seeds = len({r["seed"] for r in rows})
            print(f"| {dataset} | {which} | {steps} | {kind} | {seeds} | {' | '.join(cells)} |")
        cells = [f"{figures[c]:.2f}" if c in figures else "" for c in columns]
        print(f"| {dataset} | published | | | 50 | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the record, JSON lines")
    parser.add_argument("--datasets", nargs="+", default=list(CLASSES), choices=list(CLASSES))
    parser.add_argument("--network", type=int, default=0, help="seed of training data and network")
    parser.add_argument("--seeds", type=int, default=50, help="draws of reference samples")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--average", action="store_true", help="give the mean of the last weights")
    parser.add_argument("--cache", type=Path, help="an existing folder that keeps the networks")
    parser.add_argument("--third-relu", action="store_true", help="as the paper draws the network")
    parser.add_argument("--table", action="store_true", help="print the record, measure nothing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.table:
        print_table(read(args.out))
    else:
        run(args)


if __name__ == "__main__":
    main()
