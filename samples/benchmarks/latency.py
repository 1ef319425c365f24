"""How much faster compressed models run than dense ones, and how far from the machine's limits.

    OMP_NUM_THREADS=1 python samples/benchmarks/latency.py --models MODELS \
        --out samples/benchmarks/results/latency.jsonl
    python samples/benchmarks/latency.py --table samples/benchmarks/results/latency.jsonl

Every model is cut to its ratio at once and without data (`--epochs 0`: speed does not depend on
what the weights are), compiled without tuning, and timed by `crespr-onnx bench`: dense and
compressed in ONNX Runtime and the compiled artefact take turns in one process, on one thread. One
JSON line per model, ratio and, where there is one, ratio of multiply-adds (`--mac-ratio`). Times
are worth only as much as the machine is quiet; ratios are of medians.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from json_lines import read_lines, show_line
from speed_models import mlp_4x4096, vgg16

from crespr_onnx import CompressSettings, compress
from crespr_onnx.bench.run import bench
from crespr_onnx.bench.settings import BenchSettings

RATIOS = (0.90, 0.98)
COLUMNS = (
    "model", "ratio", "MAC ratio", "clusters", "batch", "dense, ms", "ONNX Runtime", "TVM",
    "TVM over ONNX Runtime", "above the floor", "floor of",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A model to time.

    Attributes:
        file: its name in the folder of models, or what writes it.
        clusters: what `--clusters auto` chose for it when it was trained on real data.
        mac_ratios: shares of the multiply-adds that must go as well; None asks for none.
    """

    file: str | Callable[[Path], None]
    clusters: int | None = None
    mac_ratios: tuple[float | None, ...] = (None,)

    def locate(self, models: Path, folder: Path) -> Path:
        """Its file; one that is made on the spot is written to a folder."""
        if isinstance(self.file, str):
            return models / self.file
        path = folder / f"{self.file.__name__}.onnx"
        self.file(path)
        return path


CASES = {
    "lenet5_mnist": Case("lenet5_mnist.onnx"),
    "cifar_resnet20": Case("cifar_resnet20_bn.onnx", clusters=1),
    "cifar_resnet56": Case("cifar_resnet56_bn.onnx", clusters=1),
    "vgg16_32x32": Case(vgg16, mac_ratios=(None, 0.95)),
    "mlp_4x4096": Case(mlp_4x4096),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, help="folder of trained .onnx files")
    parser.add_argument("--only", choices=CASES, nargs="+", default=list(CASES))
    parser.add_argument("--ratios", type=float, nargs="+", default=RATIOS)
    parser.add_argument("--mac-ratios", type=float, nargs="+", help="instead of the case's own")
    parser.add_argument("--batch", type=int, nargs="+", default=(1, 8))
    parser.add_argument("--repeats", type=int, default=41)
    parser.add_argument("--out", type=Path, help="JSON lines to append to")
    parser.add_argument("--table", type=Path, metavar="RECORDS", help="print their table instead")
    arguments = parser.parse_args()
    if arguments.table is not None:
        print(table(read_lines(arguments.table)))
        return
    if arguments.models is None:
        parser.error("give --models, or --table")
    for name in arguments.only:
        mac_ratios = arguments.mac_ratios or CASES[name].mac_ratios
        for ratio, mac_ratio in product(arguments.ratios, mac_ratios):
            with tempfile.TemporaryDirectory() as folder:
                record = measure(name, ratio, mac_ratio, arguments, Path(folder))
            show_line(record, arguments.out)


def measure(
    name: str, ratio: float, mac_ratio: float | None, arguments: argparse.Namespace, folder: Path
) -> dict[str, Any]:
    """Compresses a model in a folder and times the result."""
    case = CASES[name]
    dense = case.locate(arguments.models, folder)
    output = folder / "compressed"
    settings = CompressSettings(
        dense, ratio, target="cpu", epochs=0, clusters=case.clusters, threads=1, min_speedup=0.0,
        output=output, mac_ratio=mac_ratio,
    )  # fmt: skip
    report = compress(settings)
    if report.exit_code != 0 or report.ratio is None:
        sys.exit("; ".join(report.reasons))
    timed = bench(
        BenchSettings(
            (output,), batches=tuple(arguments.batch), threads=(1,), repeats=arguments.repeats
        )
    )
    kept = ("engine", "model", "batch", "threads", "median_ms", "q1_ms", "q3_ms", "speed_up",
            "floor_ms", "bound_by", "above_floor")  # fmt: skip
    return {
        "model": name,
        "ratio": ratio,
        "mac_ratio": mac_ratio,
        "physical": report.ratio.physical,
        "macs": [report.ratio.macs_before, report.ratio.macs_after],
        "clusters": max(layer.clusters for layer in report.layers),
        "rows": [{key: asdict(row)[key] for key in kept} for row in timed.rows],
        "peaks": [asdict(peak) for peak in timed.peaks],
        "notes": timed.notes,
        "versions": timed.versions,
        "host": timed.host,
    }


def table(records: list[Mapping[str, Any]]) -> str:
    """Markdown: a row per model, ratio and batch size; below, the means that matter."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    gains = []
    for record in records:
        for batch in sorted({row["batch"] for row in record["rows"]}):
            rows = {
                (row["model"], row["engine"]): row
                for row in record["rows"]
                if row["batch"] == batch
            }
            dense = rows["dense", "onnxruntime"]
            ours, compiled = rows["compressed", "onnxruntime"], rows["compressed", "tvm"]
            gain = ours["median_ms"] / compiled["median_ms"]
            gains += [gain] if batch == 1 else []
            cells = (
                record["model"], f"{record['ratio']:g}", record.get("mac_ratio") or "",
                record["clusters"], batch,
                f"{dense['median_ms']:.3g}", f"{ours['speed_up']:.1f}x",
                f"{compiled['speed_up']:.1f}x", f"{gain:.1f}x",
                f"{compiled['above_floor']:.1f}x", compiled["bound_by"],
            )  # fmt: skip
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    mean, least = geometric_mean(gains), min(gains)
    lines.append("")
    lines.append(
        "Compiled over ONNX Runtime on the same compressed model, batch 1: geometric mean "
        f"{mean:.2f}x, lowest {least:.2f}x."
    )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
