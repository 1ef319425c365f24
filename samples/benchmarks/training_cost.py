"""What training costs, side by side in one process: time per step and memory, as ratios.

Three phases of the same length on the same data: plain distillation of the dense model, its
restriction (with its share of the cuts), and fine-tuning of the split model. Time is CPU time of
one thread, so that other work on the machine disturbs it little; the phases alternate, and each
ratio is the median over the rounds. Memory is the peak of PyTorch's allocations from the import of
the model on, by its profiler: weights, gradients, optimiser, activations.

    python samples/benchmarks/training_cost.py --models MODELS --mlp DATA/mlp.onnx \
        --out samples/benchmarks/results/training_cost.jsonl
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from crespr_onnx.data import Samples
from crespr_onnx.settings import CompressSettings
from crespr_onnx.stages import plan_layout, train
from crespr_onnx.stages.any_batch import for_any_batch
from crespr_onnx.stages.lower import split
from crespr_onnx.stages.masking import masked_copy
from crespr_onnx.stages.prepare import Prepared, prepare_model
from crespr_onnx.training.finetune import FineTuning, fine_tune
from crespr_onnx.training.importer import import_model
from crespr_onnx.training.lesson import Lesson
from crespr_onnx.training.restrict import CUTS, Restriction

PHASES = ("plain", "restriction", "split")
MIDDLE = 0.3
"""What is measured is the restriction from this point of it on."""


@dataclass(frozen=True)
class Case:
    """A model and how much of its training to measure.

    Attributes:
        model: file name.
        shape: of one sample.
        samples: how many of them an epoch has, whose steps the cuts are shared out to.
        batch_size: samples per step.
        steps: how many to measure at a time.
        rounds: how often.
        clusters: what auto chooses,
        plan: and which of the candidates with that many.
    """

    model: str
    shape: tuple[int, ...]
    samples: int
    batch_size: int
    steps: int
    rounds: int
    clusters: int = 1
    plan: int = 0


MNIST, CIFAR = (1, 28, 28), (3, 32, 32)
CASES = {
    "mlp": Case("mlp.onnx", (784,), 60_000, 128, 60, 15, clusters=8),
    "lenet5_mnist": Case("lenet5_mnist.onnx", MNIST, 60_000, 128, 30, 11),
    "cifar_resnet20_jpegft_bn": Case(
        "cifar_resnet20_jpegft_bn.onnx", CIFAR, 50_000, 64, 6, 5, plan=1
    ),
    "cifar_resnet56_bn": Case("cifar_resnet56_bn.onnx", CIFAR, 50_000, 64, 4, 3, plan=1),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--mlp", type=Path, help="mlp.onnx, output of train_mlp.py")
    parser.add_argument("--only", choices=CASES, action="append")
    parser.add_argument("--ratio", type=float, default=0.9)
    parser.add_argument("--rounds", type=int, help="instead of those of the case")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.only or CASES:
        case = CASES[name]
        path = arguments.models / case.model
        if not path.exists():
            path = arguments.mlp
        record = measure(name, case, path, arguments.ratio, arguments.rounds or case.rounds)
        print(json.dumps(record), flush=True)
        if arguments.out:
            with arguments.out.open("a") as out:
                out.write(json.dumps(record) + "\n")


def measure(name: str, case: Case, path: Path, ratio: float, rounds: int) -> dict[str, object]:
    settings = CompressSettings(
        path,
        ratio,
        clusters=case.clusters,
        threads=1,
        batch_size=case.batch_size,
        lr=1e-4,
        precision="fp32",
    )
    prepared = for_any_batch(prepare_model(path), settings)
    cuts: list[float] = []
    phases = make_phases(prepared, case, settings, cuts)
    times: dict[str, list[float]] = {phase: [] for phase in PHASES}
    for i in range(rounds + 1):
        for phase in PHASES if i % 2 else reversed(PHASES):
            run = phases[phase]()
            start = time.process_time()
            run()
            if i:  # the first round warms up
                times[phase].append((time.process_time() - start) / case.steps)
    cut = statistics.median(cuts)
    per_epoch = case.samples // case.batch_size
    steps = per_epoch * train.restrict_epochs(settings.epochs, per_epoch)
    times["restriction"] = [t + cut * CUTS / steps for t in times["restriction"]]
    peaks = {phase: peak_bytes(phases[phase]) for phase in PHASES}
    weights = 4 * prepared.graph.weights
    return {
        "model": name,
        "ratio": ratio,
        "batch_size": case.batch_size,
        "steps": case.steps,
        "rounds": rounds,
        "ms_per_step": {p: round(1e3 * statistics.median(t), 3) for p, t in times.items()},
        "ms_per_cut": round(1e3 * cut, 1),
        "time_over_plain": {
            p: round(statistics.median(a / b for a, b in zip(t, times["plain"], strict=True)), 3)
            for p, t in times.items()
        },
        "weight_bytes": weights,
        "peak_bytes": peaks,
        "copies_of_weights_over_plain": round((peaks["restriction"] - peaks["plain"]) / weights, 2),
        "versions": {package: version(package) for package in ("torch", "accelerate")},
    }


def make_phases(
    prepared: Prepared, case: Case, settings: CompressSettings, cuts: list[float]
) -> dict[str, Callable[[], Callable[[], None]]]:
    """For each phase what sets it up; what that returns runs it. Seconds of cuts go to `cuts`."""
    dense, graph = prepared.model, prepared.graph
    rng = np.random.default_rng(0)
    n = case.steps * case.batch_size
    x = rng.normal(size=(n, *case.shape)).astype(np.float32)
    samples = Samples({dense.graph.inputs[0].name or "": x}, rng.integers(0, 10, n))
    lesson = train.make_lesson(dense, samples, settings, lambda _: None)
    assert isinstance(lesson, Lesson)
    scores = train.score(dense, graph, lesson, settings)
    plan = plan_layout.possible_plans(graph, settings, scores)[case.plan]
    small = split(masked_copy(dense, graph, plan.layout), graph, plan.layout)
    tuning = FineTuning(1, case.batch_size, settings.lr, precision="fp32")

    def plain() -> Callable[[], None]:
        module = import_model(dense).module
        return lambda: fine_tune(module, lesson, tuning)

    def restricting() -> Callable[[], None]:
        imported = import_model(dense)
        restriction = Restriction(imported, graph, plan.layout, plan.allocation)
        start = time.process_time()
        found = train.score_for_cut(imported, graph, lesson, settings)
        restriction.cut(MIDDLE, restriction.next_layout(MIDDLE, found))
        cuts.append(time.process_time() - start)
        return lambda: fine_tune(
            imported.module, lesson, tuning, before_step=lambda _: restriction.hold()
        )

    def after_split() -> Callable[[], None]:
        module = import_model(small).module
        return lambda: fine_tune(module, lesson, tuning)

    return {"plain": plain, "restriction": restricting, "split": after_split}


def peak_bytes(prepare: Callable[[], Callable[[], None]]) -> int:
    """Most bytes that PyTorch held at a time, above those that it held before."""
    peak = 0
    for _ in range(3):  # now and then the profiler misses events
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            prepare()()
        held = 0
        for event in profiler.profiler.kineto_results.events():
            if event.name() == "[memory]":
                held += event.nbytes()
                peak = max(peak, held)
    return peak


if __name__ == "__main__":
    main()
