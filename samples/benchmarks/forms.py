"""How fast the forms of split layers are, and what choosing them takes.

    OMP_NUM_THREADS=1 python samples/benchmarks/forms.py --models MODELS \
        --out samples/benchmarks/results/forms.jsonl
    python samples/benchmarks/forms.py --table samples/benchmarks/results/forms.jsonl
    python samples/benchmarks/forms.py --fit samples/benchmarks/results/forms.jsonl

Every model is cut to its ratio at once and without data (speed does not depend on what the weights
are). All forms of all units are timed, and so is the whole model with all layers grouped, all
separate, and in the forms that were chosen: in ONNX Runtime, and compiled by TVM, one thread, batch
1, by turns. One JSON line per model, ratio, cluster count and engine. `--fit` fits the cost model
(crespr_onnx/forms/cost_model.json) to the times of TVM.
"""

import argparse
import json
import platform
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from json_lines import read_lines, show_line
from scipy.optimize import nnls

from crespr_onnx import CompressSettings
from crespr_onnx.forms.cache import Cache
from crespr_onnx.forms.contest import WHOLE_TURN, Contest
from crespr_onnx.forms.cost_model import FEATURES, FILE, features_of
from crespr_onnx.forms.decide import CHOSEN, decide
from crespr_onnx.forms.engine import Engine, OnnxRuntime, Times, cpu_name
from crespr_onnx.forms.engine_for import X86_LANES
from crespr_onnx.forms.engine_tvm import Compiled
from crespr_onnx.graph.accounting import stored_weights
from crespr_onnx.graph.random_inputs import input_shapes_for
from crespr_onnx.stages import plan_layout, train
from crespr_onnx.stages.any_batch import as_declared
from crespr_onnx.stages.lower import fold, split
from crespr_onnx.stages.masking import masked_copy
from crespr_onnx.stages.prepare import Prepared, infer_shapes, prepare_model
from crespr_onnx.targets import find_target

MODELS = {
    "lenet5_mnist": "lenet5_mnist.onnx",
    "mlp_mnist": "mlp.onnx",
    "cifar_resnet20": "cifar_resnet20_bn.onnx",
    "cifar_resnet56": "cifar_resnet56_bn.onnx",
}
RATIOS, CLUSTERS = (0.90, 0.98), (4, 8)
ENGINES: dict[str, Callable[[], Engine]] = {
    "onnxruntime": OnnxRuntime,
    "tvm": lambda: Compiled(find_target("cpu"), X86_LANES),
    "tvm, all forms": lambda: Compiled(find_target("cpu"), X86_LANES, far=float("inf")),
}


@dataclass
class Watched:
    """An engine that remembers what it was asked and what it answered."""

    engine: Engine
    seen: list[tuple[Contest, Times]]

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self.engine, name)

    def time(self, contests: Sequence[Contest], done: Callable[[float], None]) -> list[Times]:
        """See `Engine`."""
        found = self.engine.time(contests, done)
        self.seen += zip(contests, found, strict=True)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, nargs="+", help="folders of trained .onnx files")
    parser.add_argument("--only", choices=MODELS, nargs="+", default=list(MODELS)[:3])
    parser.add_argument("--ratios", type=float, nargs="+", default=RATIOS)
    parser.add_argument("--clusters", type=int, nargs="+", default=CLUSTERS)
    parser.add_argument("--engines", choices=ENGINES, nargs="+", default=list(ENGINES)[:2])
    parser.add_argument("--out", type=Path, help="JSON lines to append to")
    parser.add_argument("--table", type=Path, metavar="RECORDS", help="print their table instead")
    parser.add_argument("--fit", type=Path, metavar="RECORDS", help="fit the cost model to them")
    arguments = parser.parse_args()
    if arguments.table is not None:
        print(table(read_lines(arguments.table)))
        return
    if arguments.fit is not None:
        print(fit(read_lines(arguments.fit)))
        return
    if arguments.models is None:
        parser.error("give --models, --table or --fit")
    for name in arguments.only:
        (path, *_) = [p / MODELS[name] for p in arguments.models if (p / MODELS[name]).is_file()]
        for ratio in arguments.ratios:
            for clusters in arguments.clusters:
                for engine in arguments.engines:
                    record = {"model": name} | measure(path, ratio, clusters, engine)
                    show_line(record, arguments.out)


def small_model(prepared: Prepared, settings: CompressSettings) -> ir.Model:
    """A model cut to its ratio, whose layers can take any form."""
    scores = train.score(prepared.model, prepared.graph, None, settings)
    layout = plan_layout.possible_plans(prepared.graph, settings, scores)[0].layout
    masked = masked_copy(prepared.model, prepared.graph, layout)
    folded = as_declared(fold(split(masked, prepared.graph, layout)), prepared)
    infer_shapes(folded)
    return folded


def measure(path: Path, ratio: float, clusters: int, engine: str) -> dict[str, Any]:
    """Chooses with an empty cache, and again with what is in it then."""
    prepared = prepare_model(path)
    folded = small_model(prepared, CompressSettings(path, ratio, clusters=clusters, epochs=0))
    shapes = input_shapes_for(prepared.loaded.signature, 1)
    room = max(0, int((1 - ratio) * prepared.graph.weights + 1e-6) - stored_weights(folded))
    watched = Watched(ENGINES[engine](), [])
    with tempfile.TemporaryDirectory() as cache:
        seconds = []
        for _ in range(2):
            start = time.perf_counter()
            found = decide(folded, shapes, watched, room, Cache(Path(cache)), lambda _: None)
            seconds.append(time.perf_counter() - start)
    parts = [(c, times) for c, times in watched.seen if c.turn_seconds != WHOLE_TURN]
    wholes = [times for c, times in watched.seen if c.turn_seconds == WHOLE_TURN]
    return {
        "ratio": ratio,
        "asked_clusters": clusters,
        "engine": engine,
        "chosen": dict(Counter(found.forms.values())),
        "whole_ms": wholes[0] if wholes else {},
        "overruled": any("the whole model" in c.remark for c in found.layers.values()),
        "units": [
            {
                "ms": times,
                "features": {
                    name: features_of(model, contest.shapes, X86_LANES)
                    for name, model in contest.models().items()
                },
            }
            for contest, times in parts
        ],
        "seconds": round(seconds[0], 2),
        "seconds_cached": round(seconds[1], 2),
        "versions": {name: version(name) for name in ("onnxruntime", "apache-tvm")},
        "host": {"machine": platform.machine(), "cpu": cpu_name()},
    }


def table(records: list[Mapping[str, Any]]) -> str:
    """Markdown: a row per record; times relative to the model with all layers grouped."""
    columns = ("model", "ratio", "clusters asked", "engine", "grouped", "separate", "best of each",
               "delivered", "units", "seconds", "with the cache")  # fmt: skip
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for record in records:
        whole, forms = record["whole_ms"], record["chosen"]
        grouped = whole.get("grouped")
        relative = [
            f"{whole[name] / grouped:.2f}" if grouped and name in whole else "-"
            for name in ("separate", CHOSEN)
        ]
        delivered = ", ".join(f"{n} {form}" for form, n in sorted(forms.items())) or "no clusters"
        cells = (
            record["model"], record["ratio"], record["asked_clusters"], record["engine"],
            f"{grouped:.3g} ms" if grouped else "-", *relative, delivered,
            len(record["units"]), record["seconds"], record["seconds_cached"],
        )  # fmt: skip
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def fit(records: list[Mapping[str, Any]]) -> str:
    """Fits the coefficients to the times of TVM, relative errors counting alike; writes them."""
    rows, times, groups = [], [], []
    for record in records:
        for unit in record["units"] if record["engine"] == "tvm, all forms" else ():
            for form, ms in unit["ms"].items():
                rows.append([unit["features"][form][name] for name in FEATURES])
                times.append(1e3 * ms)
            groups.append(unit)
    matrix, measured = np.array(rows), np.array(times)
    solution, _ = nnls(matrix / measured[:, None], np.ones(len(measured)))
    coefficients = dict(zip(FEATURES, solution.tolist(), strict=True))
    error = np.abs(matrix @ solution / measured - 1.0)
    right, lost = _agreement(groups, coefficients)
    note = (
        f"{len(measured)} forms of {len(groups)} units; median relative error "
        f"{np.median(error):.0%}; the form of least cost is within 3% of the fastest "
        f"one in {right} of them, and takes {lost:.2f} times the fastest one's time at worst"
    )
    content = {
        "fitted_to": "times of kernels compiled by TVM, on x86: " + note,
        "command": "samples/benchmarks/forms.py --fit samples/benchmarks/results/forms.jsonl",
        "us": {name: float(f"{x:.4g}") for name, x in coefficients.items()},
    }
    FILE.write_text(json.dumps(content, indent=1) + "\n")
    return json.dumps(content, indent=1)


def _agreement(
    units: list[Mapping[str, Any]], coefficients: Mapping[str, float]
) -> tuple[int, float]:
    """In how many units the form of least cost is about the fastest, and the worst mistake."""
    factors = []
    for unit in units:
        costs = {
            form: sum(coefficients[name] * unit["features"][form][name] for name in FEATURES)
            for form in unit["ms"]
        }
        factors.append(unit["ms"][min(costs, key=costs.__getitem__)] / min(unit["ms"].values()))
    return sum(factor < 1.03 for factor in factors), max(factors)


if __name__ == "__main__":
    main()
