"""Instructions that compiled models execute on ARM per inference, counted under emulation.

    python samples/benchmarks/arm_instructions.py --models MODELS \
        --out samples/benchmarks/results/arm_instructions.jsonl
    python samples/benchmarks/arm_instructions.py \
        --table samples/benchmarks/results/arm_instructions.jsonl

There is no board here, and a time under emulation is that of none; the number of instructions is
exact (see `instruction_trace`) and the same on every machine. It is not a time: loads that miss the
cache count as much as additions. The models are those of `latency.py`, dense and cut to each ratio
without data, at batch 1, on one thread. One JSON line per model, ratio and target.

Needs the emulators and cross compilers that the tests of boards need (see `.ci/run`).
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from instruction_trace import TARGETS, Block, totals, trace
from json_lines import read_lines, show_line
from latency import CASES, RATIOS

from crespr_onnx import CompressSettings, compress
from crespr_onnx.errors import CompileError
from crespr_onnx.graph.accounting import node_costs
from crespr_onnx.graph.random_inputs import input_shapes_for
from crespr_onnx.graph.save import save_model
from crespr_onnx.stages.lower import finish
from crespr_onnx.stages.prepare import prepare_model
from crespr_onnx.targets import find_target
from crespr_onnx.targets.board_runtime import fetch_runtime
from crespr_onnx.targets.compile import compile_model
from crespr_onnx.targets.emulate import build_program, keep_runner
from crespr_onnx.targets.link import link_library
from crespr_onnx.targets.system import System, emulator

UNSCHEDULED = "cifar_resnet20"
"""The model that is compiled for arm64 without our schedules as well, by TVM's default pipeline."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, help="folder of trained .onnx files")
    parser.add_argument("--only", choices=CASES, nargs="+", default=list(CASES))
    parser.add_argument("--targets", choices=TARGETS, nargs="+", default=TARGETS)
    parser.add_argument("--ratios", type=float, nargs="+", default=RATIOS)
    parser.add_argument("--limit", type=float, default=900.0, help="seconds under the emulator")
    parser.add_argument("--out", type=Path, help="JSON lines to append to")
    parser.add_argument("--table", type=Path, metavar="RECORDS", help="print their table instead")
    arguments = parser.parse_args()
    if arguments.table is not None:
        print(table(read_lines(arguments.table)))
        return
    if arguments.models is None:
        parser.error("give --models, or --table")
    for name in arguments.only:
        with tempfile.TemporaryDirectory() as folder:
            for record in records(name, arguments, Path(folder)):
                show_line(record, arguments.out)


def records(name: str, arguments: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """Compiles a model, dense and compressed, for each target, and counts."""
    case = CASES[name]
    source = case.locate(arguments.models, folder)
    prepared = prepare_model(source)
    shapes = input_shapes_for(prepared.loaded.signature, 1, None)
    dense = folder / "dense.onnx"
    save_model(finish(prepared.model, "grouped"), dense)
    macs = sum(cost.macs or 0 for cost in node_costs(prepared.model))
    for target in arguments.targets:
        built = folder / f"dense-{target}"
        compile_model(dense, built, find_target(target), shapes, timeout=1800.0)
        found = {"model": name, "ratio": 0.0, "target": target, "schedules": True, "macs": macs}
        yield found | counted(built, target, arguments.limit)
        if (name, target) == (UNSCHEDULED, "arm64"):
            compile_unscheduled(dense, built, target, shapes)
            yield found | {"schedules": False} | counted(built, target, arguments.limit)
        for ratio in arguments.ratios:
            output = folder / f"{ratio}-{target}"
            settings = CompressSettings(
                source, ratio, target=target, epochs=0, clusters=case.clusters, threads=1,
                min_speedup=0.0, form="grouped", output=output,
            )  # fmt: skip
            report = compress(settings)
            if report.exit_code != 0 or report.ratio is None:
                sys.exit("; ".join(report.reasons))
            found |= {"ratio": ratio, "macs": report.ratio.macs_after}
            yield found | counted(output, target, arguments.limit)
            if (name, target) == (UNSCHEDULED, "arm64"):
                compile_unscheduled(output / "model.onnx", output, target, shapes)
                yield found | {"schedules": False} | counted(output, target, arguments.limit)


def counted(folder: Path, target: str, limit: float) -> dict[str, Any]:
    """Counts one inference of an artefact, behind another that warms up its memory."""
    system = find_target(target).system
    assert system is not None
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        try:
            window = one_inference(folder, system, Path(scratch), limit)
        except (CompileError, TimeoutError) as error:
            return {"failed": str(error)}
    return {
        **totals(window),
        "seconds": round(time.perf_counter() - start, 1),
        "versions": {"apache-tvm": version("apache-tvm"), "qemu": qemu_version(system)},
    }


def one_inference(folder: Path, system: System, scratch: Path, limit: float) -> Mapping[Block, int]:
    """How often each block is executed between the runner's two readings of the clock."""
    manifest = json.loads((folder / "artefact.json").read_text(encoding="utf-8"))
    library = folder / manifest["library"]
    if library.suffix == ".a":
        command = [str(build_program(scratch, system, library))]
    else:
        fetch_runtime(system)
        command = [str(keep_runner(system)), str(library)]
    rng = np.random.default_rng(0)
    for i, spec in enumerate(manifest["inputs"]):
        path = scratch / f"in{i}.npy"
        np.save(path, rng.standard_normal(spec["shape"]).astype(spec["dtype"]))
        command.append(str(path))
    return trace([*command, "-n", "1"], system, limit)[-2]


def compile_unscheduled(
    model: Path, folder: Path, target: str, shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """Replaces the library of an artefact by what TVM's default pipeline makes of the model."""
    import tvm

    from crespr_onnx.targets.tvm_import import import_onnx

    found = find_target(target)
    options = tvm.target.Target({**found.tvm, "num-cores": 1})
    executable = tvm.compile(import_onnx(model, shapes), target=options)

    def link(output: str, objects: list[str], **_: object) -> None:
        link_library(Path(output), objects, found.system)

    executable.export_library(str(folder / "model.so"), fcompile=link)


def qemu_version(system: System) -> str:
    program = emulator(system)
    assert program is not None
    done = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[0]


def table(found: list[Mapping[str, Any]]) -> str:
    """Markdown: a row per model, ratio and way of compiling; the last record of each counts."""
    cells = {(r["model"], r["ratio"], r["target"], r["schedules"]): r for r in found}
    lines = [
        "| model | ratio | MACs | arm64: instructions | per MAC | on vectors | multiply-adds "
        "| dense over this | armv7: instructions | per MAC | dense over this |",
        "|---" * 11 + "|",
    ]
    for model, ratio, schedules in dict.fromkeys((m, r, s) for m, r, _, s in cells):
        columns = []
        for target in TARGETS:
            record = cells.get((model, ratio, target, schedules), {})
            count = record.get("instructions")
            width = 5 if target == "arm64" else 3
            if count is None:
                columns += ["failed" if "failed" in record else "-", *["-"] * (width - 1)]
                continue
            dense = cells.get((model, 0.0, target, schedules), {}).get("instructions")
            columns += [f"{count:,}", f"{count / record['macs']:.2f}"]
            if target == "arm64":
                columns += [f"{record[key] / count:.0%}" for key in ("vector", "multiply_adds")]
            columns.append(f"{dense / count:.1f}x" if dense and ratio else "-")
        macs = next(r["macs"] for key, r in cells.items() if key[:2] == (model, ratio))
        name = model if schedules else f"{model}, no schedules"
        row = [name, f"{ratio:g}" if ratio else "dense", f"{macs:,}", *columns]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
