"""What surrounds convolutions and linear layers, compiled, beside ONNX Runtime on one thread.

    OMP_NUM_THREADS=1 python samples/benchmarks/operators.py --out operators.jsonl
    python samples/benchmarks/operators.py --table operators.jsonl

TVM without schedules, TVM with ours and ONNX Runtime take turns in one process on every case of
`operator_cases`; times are medians. One JSON line per case.
"""

import argparse
import json
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import geometric_mean, median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime
from operator_cases import NETWORKS, OPERATORS

from crespr_onnx.targets import find_target
from crespr_onnx.targets.compile import compile_model
from crespr_onnx.targets.run import load_artefact
from crespr_onnx.targets.stopwatch import onnx_runner, take_turns

CASES = OPERATORS | NETWORKS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="TEXT", default=[""],
                        help="cases whose names hold one of these")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--seconds", type=float, default=0.02, help="of one turn, roughly")
    parser.add_argument("--out", type=Path, help="JSON lines to append to")
    parser.add_argument("--table", type=Path, metavar="RECORDS", help="print their table instead")
    arguments = parser.parse_args()
    if arguments.table is not None:
        print(table([json.loads(line) for line in arguments.table.read_text().splitlines()]))
        return
    records = []
    for name in CASES:
        if not any(text in name for text in arguments.only):
            continue
        with TemporaryDirectory() as folder:
            records.append(measure(name, Path(folder), arguments.rounds, arguments.seconds))
        if arguments.out is not None:
            with arguments.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(records[-1]) + "\n")
    print(table(records))


def measure(name: str, folder: Path, rounds: int, seconds: float) -> dict[str, Any]:
    """Compiles a case twice, holds both against ONNX Runtime and times the three."""
    path, case, rng = folder / "case.onnx", CASES[name], np.random.default_rng(1)
    case.save(path)
    inputs = {n: rng.normal(size=s).astype(np.float32) for n, s in case.inputs.items()}
    compiled = compile_model(path, folder / "ours", find_target("cpu"))
    ours = load_artefact(folder / "ours")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, inputs)
    (found,) = ours(inputs).values()
    plain = unscheduled(path, inputs)
    engines = {
        "onnxruntime": onnx_runner(str(path), inputs, 1),
        "ours": ours.compute,
        "unscheduled": plain,
    }
    turns = take_turns(engines, rounds, seconds)
    return {
        "case": name,
        "ms": {engine: median(values) for engine, values in turns.items()},
        "quartiles_ms": {e: np.quantile(v, [0.25, 0.75]).tolist() for e, v in turns.items()},
        "max_rel_diff": float(np.abs(found - expected).max() / np.abs(expected).max()),
        "compile_s": round(compiled.seconds, 2),
        "versions": {p: version(p) for p in ("apache-tvm", "onnxruntime", "onnx")},
        "measured": time.strftime("%Y-%m-%d"),
    }


def unscheduled(path: Path, inputs: dict[str, np.ndarray]) -> Callable[[], object]:
    """A call of the model as TVM's own pipeline compiles it."""
    import tvm

    from crespr_onnx.targets.tvm_import import import_onnx

    manifest = json.loads((path.parent / "ours" / "artefact.json").read_text())
    module = import_onnx(path, {})
    executable = tvm.compile(module, target=tvm.target.Target(manifest["target"]))
    machine = tvm.relax.VirtualMachine(executable, tvm.cpu())
    names = [tensor["name"] for tensor in manifest["inputs"]]
    arrays = [tvm.runtime.tensor(inputs[name]) for name in names]
    return lambda: machine["main"](*arrays)


def table(records: list[dict[str, Any]]) -> str:
    """Markdown: times relative to ONNX Runtime's."""
    lines = [
        "| case | ONNX Runtime, us | no schedules | ours |",
        "|---|---|---|---|",
    ]
    ratios = []
    for record in records:
        ms = record["ms"]
        plain, ours = (ms[engine] / ms["onnxruntime"] for engine in ("unscheduled", "ours"))
        ratios.append(ours)
        lines.append(
            f"| {record['case']} | {1e3 * ms['onnxruntime']:.1f} | {plain:.2f} | {ours:.2f} |"
        )
    lines.append("")
    lines.append(
        f"Time relative to ONNX Runtime's, ours: geometric mean {geometric_mean(ratios):.2f}, "
        f"highest {max(ratios):.2f}."
    )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
