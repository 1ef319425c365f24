"""Compiles models for CUDA devices, and records what each kernel uses of a multiprocessor.

No GPU is needed, and none is used: nothing here is a time. Each model is compiled as it is and
compressed in one shot, for each architecture; a record per kernel is appended to a JSON-lines file.

    python samples/benchmarks/cuda_kernels.py --models MODELS \
        --out samples/benchmarks/results/cuda_kernels.jsonl
    python samples/benchmarks/cuda_kernels.py --table samples/benchmarks/results/cuda_kernels.jsonl
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from crespr_onnx import CompressSettings, compress
from crespr_onnx.graph.random_inputs import input_shapes_for
from crespr_onnx.graph.save import save_model
from crespr_onnx.stages.lower import finish
from crespr_onnx.stages.prepare import prepare_model
from crespr_onnx.targets import find_target
from crespr_onnx.targets.compile import compile_model

MODELS = ("lenet5_mnist", "cifar_resnet20", "cifar_resnet56_bn")
ARCHITECTURES = ("sm_75", "sm_87", "sm_90")
RATIO = 0.90


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, help="folder of trained .onnx files")
    parser.add_argument("--only", choices=MODELS, nargs="*", default=MODELS)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--table", type=Path, help="print the table of such a file instead")
    arguments = parser.parse_args()
    if arguments.table is not None:
        print("\n".join(table([json.loads(line) for line in arguments.table.open()])))
        return
    if arguments.models is None or arguments.out is None:
        parser.error("give --models and --out, or --table")
    for name in arguments.only:
        with tempfile.TemporaryDirectory() as scratch:
            for record in records(arguments.models / f"{name}.onnx", Path(scratch)):
                with arguments.out.open("a") as out:
                    out.write(json.dumps(record) + "\n")
                print(record["model"], record["form"], record["arch"], record["kernel"])


def records(model: Path, scratch: Path) -> Iterator[dict[str, Any]]:
    """One for each kernel of a model, dense and compressed, on each architecture."""
    prepared = prepare_model(model)
    shapes = input_shapes_for(prepared.loaded.signature, 1, None)
    dense = scratch / "dense.onnx"
    save_model(finish(prepared.model, "grouped"), dense)
    report = compress(
        CompressSettings(
            model, RATIO, "onnx", output=scratch / "small", epochs=0, threads=1,
            max_drop=1.0, min_speedup=0.0,
        )
    )  # fmt: skip
    if report.status != "ok":
        raise SystemExit(f"{model}: {'; '.join(report.reasons)}")
    forms = {"dense": dense, "compressed": scratch / "small" / "model.onnx"}
    for form, path in forms.items():
        for arch in ARCHITECTURES:
            target = find_target(f"cuda:{arch}")
            built = compile_model(path, scratch / f"{form}-{arch}", target, shapes)
            manifest = json.loads((built.folder / "artefact.json").read_text(encoding="utf-8"))
            for kernel in built.kernels:
                yield {
                    "model": model.stem,
                    "form": form,
                    "ratio": RATIO if form == "compressed" else 0.0,
                    "arch": arch,
                    "kernel": kernel["name"],
                    **{key: value for key, value in kernel.items() if key != "name"},
                    "compiler": manifest["compiler"],
                    "library_bytes": built.files["model.so"],
                    "ran": built.place.ran,
                }


def table(found: list[dict[str, Any]]) -> Iterator[str]:
    """Rows in Markdown: a line per model, form and architecture."""
    yield "| model | form | arch | kernels | registers | shared bytes | spilled bytes | library |"
    yield "|---|---|---|---|---|---|---|---|"
    cases = dict.fromkeys((r["model"], r["form"], r["arch"]) for r in found)
    for case in cases:
        rows = [r for r in found if (r["model"], r["form"], r["arch"]) == case]
        registers, shared = (
            f"{min(row[key] for row in rows)} to {max(row[key] for row in rows):,}"
            for key in ("registers", "shared_bytes")
        )
        spilled = sum(row["spill_bytes"] for row in rows)
        size = f"{rows[0]['library_bytes'] / 1e3:,.0f} kB"
        yield f"| {' | '.join(case)} | {len(rows)} | {registers} | {shared} | {spilled} | {size} |"


if __name__ == "__main__":
    main()
