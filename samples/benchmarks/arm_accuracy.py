"""How closely compiled models for ARM follow ONNX Runtime on real images, under emulation.

    python samples/benchmarks/arm_accuracy.py --models MODELS --data DATA --cifar CIFAR \
        --out samples/benchmarks/results/arm_accuracy.jsonl
    python samples/benchmarks/arm_accuracy.py \
        --table samples/benchmarks/results/arm_accuracy.jsonl

MNIST digits and CIFAR-10 images of the test sets, one by one, through the trained models as they
are and cut to 2% of their weights (at once, without data). The difference is relative to the
largest value of each answer; 1e-4 is allowed. One JSON line per model, form and target.
"""

import argparse
import tempfile
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from bench_models import BENCH_MODELS, locate
from instruction_trace import TARGETS
from json_lines import read_lines, show_line

from crespr_onnx import CompressSettings, compress
from crespr_onnx.data import load_data
from crespr_onnx.graph.save import save_model
from crespr_onnx.stages.lower import finish
from crespr_onnx.stages.prepare import prepare_model
from crespr_onnx.targets import find_target
from crespr_onnx.targets.board_runtime import fetch_runtime
from crespr_onnx.targets.check import run_artefact
from crespr_onnx.targets.compile import compile_model

MODELS = ("lenet5_mnist", "resnet20_cifar", "resnet56_cifar")
RATIO = 0.98


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, help="folder of trained .onnx files")
    parser.add_argument("--data", type=Path, help="output of prepare_data.py")
    parser.add_argument("--cifar", type=Path, help="folder with train/<class> and test/<class>")
    parser.add_argument("--only", choices=MODELS, nargs="+", default=MODELS)
    parser.add_argument("--targets", choices=TARGETS, nargs="+", default=TARGETS)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--out", type=Path, help="JSON lines to append to")
    parser.add_argument("--table", type=Path, metavar="RECORDS", help="print their table instead")
    arguments = parser.parse_args()
    if arguments.table is not None:
        print(table(read_lines(arguments.table)))
        return
    if arguments.models is None or arguments.data is None:
        parser.error("give --models and --data, or --table")
    for target in arguments.targets:
        if (system := find_target(target).system) is not None and system.wheels:
            fetch_runtime(system)
    for name in arguments.only:
        with tempfile.TemporaryDirectory() as folder:
            for record in records(name, arguments, Path(folder)):
                show_line(record, arguments.out)


def records(name: str, arguments: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """Compiles a model, dense and compressed, for each target, and compares."""
    source, _, evaluation = locate(BENCH_MODELS[name], arguments)
    prepared = prepare_model(source)
    signature = prepared.loaded.signature
    samples = load_data(evaluation, signature, images=BENCH_MODELS[name].images)
    # Images come class by class.
    spread = np.linspace(0, len(samples) - 1, arguments.images).astype(np.int64)
    inputs = [samples.batch(np.array([index])) for index in spread]
    forms = {"dense": folder / "dense.onnx"}
    save_model(finish(prepared.model, "grouped"), forms["dense"])
    settings = CompressSettings(
        source, RATIO, target="onnx", epochs=0, threads=1, form="grouped", min_speedup=0.0,
        max_drop=1.0, output=folder / "small",
    )  # fmt: skip
    report = compress(settings)
    if report.exit_code != 0:
        raise SystemExit("; ".join(report.reasons))
    forms["compressed"] = folder / "small" / "model.onnx"
    shapes = {key: array.shape for key, array in inputs[0].items()}
    for form, model in forms.items():
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        expected = [session.run(None, sample) for sample in inputs]
        for target in arguments.targets:
            built = folder / f"{form}-{target}"
            compile_model(model, built, find_target(target), shapes, timeout=1800.0)
            differences = [
                largest(list(run_artefact(built, sample, timeout=600.0).values()), answers)
                for sample, answers in zip(inputs, expected, strict=True)
            ]
            yield {
                "model": name,
                "form": form,
                "ratio": RATIO if form == "compressed" else 0.0,
                "target": target,
                "images": len(inputs),
                "largest_relative_difference": max(differences),
                "versions": {key: version(key) for key in ("apache-tvm", "onnxruntime")},
            }


def largest(found: list[np.ndarray[Any, Any]], expected: list[np.ndarray[Any, Any]]) -> float:
    """The largest difference of any output, relative to that output's largest value."""
    return max(
        float(np.abs(one - other).max() / np.abs(other).max())
        for one, other in zip(found, expected, strict=True)
    )


def table(found: list[Mapping[str, Any]]) -> str:
    """Markdown: a row per model and form, a column per target."""
    cells = {(r["model"], r["form"], r["target"]): r for r in found}
    lines = [
        f"| model | form | images | {' | '.join(TARGETS)} |",
        "|---" * (3 + len(TARGETS)) + "|",
    ]
    for model, form in dict.fromkeys((m, f) for m, f, _ in cells):
        row = [cells[model, form, target] for target in TARGETS if (model, form, target) in cells]
        values = (f"{record['largest_relative_difference']:.1e}" for record in row)
        lines.append(f"| {model} | {form} | {row[0]['images']} | {' | '.join(values)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
