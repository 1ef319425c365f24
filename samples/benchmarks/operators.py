"""What surrounds convolutions and linear layers, compiled, beside ONNX Runtime on one thread.

    OMP_NUM_THREADS=1 python samples/benchmarks/operators.py --out operators.jsonl
    python samples/benchmarks/operators.py --table operators.jsonl

TVM without schedules, TVM with ours and ONNX Runtime take turns in one process on every case of
`operator_cases`; times are medians of CPU time. One JSON line per case.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from statistics import geometric_mean, median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime
from json_lines import append_line, read_lines
from operator_cases import NETWORKS, OPERATORS

# tvm_ffi imports PyTorch when it finds it, which takes seconds and serves no purpose here.
sys.modules["torch"] = None  # type: ignore[assignment]

import tvm  # noqa: E402
from tvm.target import codegen  # noqa: E402

from crespr_onnx.targets.schedule.pipeline import schedule_module  # noqa: E402
from crespr_onnx.targets.stopwatch import onnx_runner  # noqa: E402
from crespr_onnx.targets.tvm_import import import_onnx  # noqa: E402

CASES = OPERATORS | NETWORKS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="TEXT", default=[""],
                        help="cases whose names hold one of these")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--seconds", type=float, default=0.004, help="of one turn, roughly")
    parser.add_argument("--out", type=Path, help="JSON lines to append to")
    parser.add_argument("--table", type=Path, metavar="RECORDS", help="print their table instead")
    arguments = parser.parse_args()
    if arguments.table is not None:
        print(table(read_lines(arguments.table)))
        return
    records = []
    for name in CASES:
        if not any(text in name for text in arguments.only):
            continue
        with TemporaryDirectory() as folder:
            records.append(measure(name, Path(folder), arguments.rounds, arguments.seconds))
        append_line(records[-1], arguments.out)
    print(table(records))


def measure(name: str, folder: Path, rounds: int, seconds: float) -> dict[str, Any]:
    """Compiles a case twice, holds ours against ONNX Runtime and times the three."""
    path, case, rng = folder / "case.onnx", CASES[name], np.random.default_rng(1)
    case.save(path)
    inputs = {n: rng.normal(size=s).astype(np.float32) for n, s in case.inputs.items()}
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, inputs)
    start = time.perf_counter()
    ours = compiled(path, inputs, scheduled=True)
    seconds_compiling = time.perf_counter() - start
    engines = {
        "onnxruntime": onnx_runner(str(path), inputs, 1),
        "ours": ours,
        "unscheduled": compiled(path, inputs, scheduled=False),
    }
    turns = take_turns(engines, rounds, seconds)
    return {
        "case": name,
        "ms": {engine: median(values) for engine, values in turns.items()},
        "quartiles_ms": {e: np.quantile(v, [0.25, 0.75]).tolist() for e, v in turns.items()},
        "max_rel_diff": float(np.abs(ours().numpy() - expected).max() / np.abs(expected).max()),
        "compile_s": round(seconds_compiling, 2),
        "versions": {p: version(p) for p in ("apache-tvm", "onnxruntime", "onnx")},
        "measured": time.strftime("%Y-%m-%d"),
    }


def compiled(path: Path, inputs: Mapping[str, np.ndarray], scheduled: bool) -> Callable[[], Any]:
    """A call of the model as TVM compiles it for this CPU, with our schedules or its pipeline."""
    module = import_onnx(path, {})
    target = tvm.target.Target(
        {"kind": "llvm", "mcpu": codegen.llvm_get_system_cpu(), "num-cores": 1}
    )
    executable = tvm.compile(schedule_module(module, target, 1) if scheduled else module, target)
    machine = tvm.relax.VirtualMachine(executable, tvm.cpu())
    arrays = [tvm.runtime.tensor(array) for array in inputs.values()]
    main = machine["main"]
    return lambda: main(*arrays)


def take_turns(
    engines: Mapping[str, Callable[[], object]], rounds: int, seconds: float
) -> dict[str, list[float]]:
    """Milliseconds of CPU time per call in each turn; a turn lasts about so many seconds.

    CPU time, since waiting for a core on a busy machine says nothing of an engine; all of them
    compute on one thread.
    """
    calls = {
        name: max(1, int(seconds / mean_cpu_seconds(call, 5))) for name, call in engines.items()
    }
    samples: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(rounds):
        for name, call in engines.items():
            samples[name].append(1e3 * mean_cpu_seconds(call, calls[name]))
    return samples


def mean_cpu_seconds(call: Callable[[], object], calls: int) -> float:
    """The process's CPU time per call, after one call that is not counted."""
    call()
    start = time.process_time()
    for _ in range(calls):
        call()
    return (time.process_time() - start) / calls


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
