"""How much importance clustering keeps, by where it starts from, and how its time grows.

Quality: real importances (criterion `magnitude`, calibration data) of the benchmark models; ways to
choose labels and selections side by side. Time: chains of two layers with hidden clusters, from
ten thousand to a hundred million weights. Times are processor times of one thread.

    OMP_NUM_THREADS=1 python samples/benchmarks/clustering.py --models MODELS --data DATA \
        --cifar CIFAR --out samples/benchmarks/results/clustering.jsonl
    python samples/benchmarks/clustering.py --table samples/benchmarks/results/clustering.jsonl
"""

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_models import BENCH_MODELS, BenchModel, add_locations, locate
from clustering_starts import STARTS, Problem, exchanged, random_reads, settled

from crespr_onnx.data import load_data
from crespr_onnx.graph.signature import signature_of
from crespr_onnx.layout import ChannelGraph, ChannelGroup, Layout, WeightedEdge
from crespr_onnx.progress import silent
from crespr_onnx.settings import CompressSettings
from crespr_onnx.stages.prepare import prepare_model
from crespr_onnx.stages.train import make_lesson, score
from crespr_onnx.training.allocate import allocate
from crespr_onnx.training.channel_edges import channel_edges
from crespr_onnx.training.cluster import cluster, random_labels
from crespr_onnx.training.criteria.criterion import Importance

RATIOS = (0.90, 0.95, 0.98, 0.99)
CLUSTERS = 16
SEEDS = range(3)
SAMPLES = 2048
SIZES = (10**4, 10**5, 10**6, 10**7, 10**8)
HIDDEN = 16
"""Clusters that the chains of layers hide."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    if "--table" in sys.argv:
        parser.add_argument("--table", type=Path, help="records to make markdown tables of")
        records = [json.loads(line) for line in parser.parse_args().table.read_text().splitlines()]
        print(quality_table(records), time_table(records), sep="\n")
        return
    add_locations(parser)
    parser.add_argument("--only", choices=[*BENCH_MODELS, "time"], action="append")
    parser.add_argument("--sizes", type=float, nargs="*", default=SIZES, help="weights")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for record in all_records(arguments):
        print(json.dumps(record), flush=True)
        with arguments.out.open("a") as out:
            out.write(json.dumps(record) + "\n")


def all_records(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for name in arguments.only or [*BENCH_MODELS, "time"]:
        if name == "time":
            for weights in arguments.sizes:
                for clusters in (4, 16):
                    # A process of its own, so that peak memory is that of one size.
                    with multiprocessing.get_context("spawn").Pool(1) as pool:
                        yield pool.apply(timed, (int(weights), clusters))
        else:
            graph, scores = importance_of(BENCH_MODELS[name], arguments)
            for ratio in RATIOS:
                yield from compared(name, graph, scores, ratio)


def importance_of(
    bench: BenchModel, arguments: argparse.Namespace
) -> tuple[ChannelGraph, Importance]:
    """That of all connections of a trained model on a part of its training data."""
    path, data, _ = locate(bench, arguments)
    prepared = prepare_model(path)
    samples = load_data(data, signature_of(prepared.model), images=bench.images)
    samples = samples.subset(np.sort(np.random.default_rng(0).permutation(len(samples))[:SAMPLES]))
    settings = CompressSettings(model=path, ratio=0.5, threads=1, batch_size=128)
    lesson = make_lesson(prepared.model, samples, settings, silent)
    return prepared.graph, score(prepared.model, prepared.graph, lesson, settings)


def compared(
    name: str, graph: ChannelGraph, scores: Importance, ratio: float
) -> Iterator[dict[str, Any]]:
    """A record per way to cluster one model at one ratio."""
    edges = channel_edges(graph, scores)
    problem = Problem(graph, edges, allocate(graph, CLUSTERS, ratio))

    def record(way: str, find: Callable[[np.random.Generator], Layout]) -> dict[str, Any]:
        kept, seconds = [], []
        for seed in SEEDS:
            start = time.process_time()
            layout = find(np.random.default_rng(seed))
            seconds.append(time.process_time() - start)
            kept.append(problem.kept(layout))
        return {
            "kind": "quality", "model": name, "ratio": ratio, "way": way,
            "kept": [round(value, 5) for value in kept],
            "seconds": [round(value, 4) for value in seconds],
        }  # fmt: skip

    def dealt(rng: np.random.Generator) -> Layout:
        return random_labels(graph, edges, problem.allocation, rng)

    def started(way: str, rng: np.random.Generator) -> Layout:
        return problem.selected(STARTS[way](problem, settled(problem, rng), rng))

    def improved(way: str, rng: np.random.Generator) -> Layout:
        return problem.improved(started(way, rng))

    def of_two(rng: np.random.Generator) -> Layout:
        return exchanged(problem, [improved("grown from random seeds", rng) for _ in range(2)])

    yield record("random labels, random reads", partial(random_reads, problem))
    yield record("random labels, best reads", lambda rng: problem.selected(dealt(rng)))
    for way in STARTS:
        yield record(f"{way}, not improved", partial(started, way))
        yield record(f"{way}, improved", partial(improved, way))
    yield record("two grown ends exchanged", of_two)
    yield record(
        "library",
        lambda rng: cluster(graph, edges, problem.allocation, int(rng.integers(2**31))),
    )


def timed(weights: int, clusters: int) -> dict[str, Any]:
    """Time and memory of clustering two layers of that many weights together, at a ratio of 98%."""
    side = round((weights / 2) ** 0.5)
    graph, scores = chain(side)
    before = peak_bytes()
    record: dict[str, Any] = {"kind": "time", "weights": 2 * side * side, "clusters": clusters}
    clock = time.process_time()

    def lap(part: str) -> None:
        nonlocal clock
        record[f"{part}_s"] = round(time.process_time() - clock, 4)
        clock = time.process_time()

    edges = channel_edges(graph, scores)
    lap("channel_edges")
    allocation = allocate(graph, clusters, 0.98)
    lap("allocate")
    layout = cluster(graph, edges, allocation, 0)
    lap("cluster")
    problem = Problem(graph, edges, allocation)
    rng = np.random.default_rng(0)
    dealt = problem.selected(random_labels(graph, edges, allocation, rng))
    return record | {
        "widths": allocation.widths.tolist(),
        "cluster_counts": allocation.clusters.tolist(),
        "kept": round(problem.kept(layout), 5),
        "kept_random": round(problem.kept(dealt), 5),
        "added_bytes": peak_bytes() - before,
    }


def peak_bytes() -> int:
    """Most memory that this process ever held; on Linux, where programs inherit no such peak."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def chain(side: int) -> tuple[ChannelGraph, dict[str, np.ndarray[Any, np.dtype[np.float64]]]]:
    """Two square layers, the ends frozen; connections within a hidden cluster matter more."""
    ids = [np.arange(start, start + side) for start in (0, side, 2 * side)]
    graph = ChannelGraph(
        groups=tuple(
            ChannelGroup(f"g{i}", c, None if i == 1 else "an end") for i, c in enumerate(ids)
        ),
        edges=tuple(
            WeightedEdge(f"e{i}", "Gemm", f"w{i}", 1, 0, a, b, 1, 1)
            for i, (a, b) in enumerate(pairwise(ids))
        ),
        values={},
        constants={},
        moves={},
    )
    rng = np.random.default_rng(0)
    hidden = [rng.integers(0, HIDDEN, side) for _ in ids]
    scores = {}
    for i in range(2):
        energy = rng.standard_exponential((side, side))
        for j in range(side):
            energy[j, hidden[i] == hidden[i + 1][j]] *= 8.0
        scores[f"e{i}"] = energy
    return graph, scores


def quality_table(records: list[dict[str, Any]]) -> str:
    """Markdown: per model a row per way, with the share that is kept at each ratio."""
    head = " | ".join(f"{100 * ratio:g}%" for ratio in RATIOS)
    lines = [f"| model | way | {head} | ms |", "|---" * (len(RATIOS) + 3) + "|"]
    quality = [r for r in records if r["kind"] == "quality"]
    for model in (name for name in BENCH_MODELS if any(r["model"] == name for r in quality)):
        of_model = [r for r in quality if r["model"] == model]
        for way in dict.fromkeys(r["way"] for r in of_model):
            cells = {r["ratio"]: r for r in of_model if r["way"] == way}
            kept = " | ".join(f"{100 * np.mean(cells[ratio]['kept']):.2f}" for ratio in RATIOS)
            ms = 1e3 * np.mean([r["seconds"] for r in cells.values()])
            lines.append(f"| {model} | {way} | {kept} | {ms:.0f} |")
    return "\n".join(lines) + "\n"


def time_table(records: list[dict[str, Any]]) -> str:
    """Markdown: a row per number of weights and clusters."""
    lines = [
        "| weights | clusters | cluster | per million weights | importance by channel | "
        "added bytes per weight | kept / random labels |",
        "|---" * 7 + "|",
    ]
    for r in records:
        if r["kind"] == "time":
            lines.append(
                f"| {r['weights']:,} | {max(r['cluster_counts'])} | {r['cluster_s']:.3f} s | "
                f"{1e9 * r['cluster_s'] / r['weights']:.0f} ms | {r['channel_edges_s']:.3f} s | "
                f"{r['added_bytes'] / r['weights']:.0f} | "
                f"{100 * r['kept']:.2f}% / {100 * r['kept_random']:.2f}% |"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
