"""float32, float16 and int8 side by side: bytes, accuracy, and latency in ONNX Runtime.

Without --models the digits sample, as it is and compressed; else any models with their data, as
they are. The formats of a model take turns in one process, on one thread with a batch of one, the
first evaluation sample. Times are relative to the same model in float32.

    python samples/benchmarks/number_formats.py --out number_formats.jsonl
    python samples/benchmarks/number_formats.py --models NAME MODEL.onnx TRAIN.npz EVAL.npz \\
        --out number_formats.jsonl
    python samples/benchmarks/number_formats.py --table number_formats.jsonl
"""

import argparse
import json
import platform
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx_ir as ir

from crespr_onnx import pipeline
from crespr_onnx.data import Samples, load_data
from crespr_onnx.graph.latency import time_models
from crespr_onnx.graph.load import load_model
from crespr_onnx.graph.save import model_bytes
from crespr_onnx.graph.signature import signature_of
from crespr_onnx.settings import CompressSettings
from crespr_onnx.settings_check import NUMBER_FORMATS
from crespr_onnx.stages.lower import finish
from crespr_onnx.stages.measure import measure_quality, one_sample
from crespr_onnx.stages.narrow import narrow
from crespr_onnx.stages.narrow_proof import compare
from crespr_onnx.stages.prepare import prepare_model

DIGITS = Path(__file__).resolve().parents[1] / "digits"


@dataclass(frozen=True)
class Case:
    """A float32 model and its data."""

    name: str
    model: ir.Model
    train: Samples
    evaluation: Samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs=4, action="append", metavar="WORD", default=[],
                        help="NAME MODEL.onnx TRAIN.npz EVAL.npz; may be repeated")  # fmt: skip
    parser.add_argument("--ratio", type=float, default=0.98, help="of the digits sample")
    parser.add_argument("--epochs", type=int, default=60, help="of the digits sample")
    parser.add_argument("--out", type=Path, help="file to append records to")
    parser.add_argument("--table", type=Path, help="only show the records of this file")
    arguments = parser.parse_args()
    if arguments.table is not None:
        print_table([json.loads(line) for line in arguments.table.read_text().splitlines()])
        return
    if arguments.models:
        cases = [given(name, Path(model), *data) for name, model, *data in arguments.models]
    else:
        cases = digits(arguments.ratio, arguments.epochs)
    records = [record for case in cases for record in measure(case)]
    if arguments.out is not None:
        with arguments.out.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)
    print_table(records)


def given(name: str, path: Path, train: str, evaluation: str) -> Case:
    """A model as it would be delivered without compressing it, BatchNorm folded."""
    model = finish(prepare_model(path).model, "grouped")
    signature = signature_of(model)
    return Case(name, model, load_data(train, signature), load_data(evaluation, signature))


def digits(ratio: float, epochs: int) -> list[Case]:
    train, evaluation = (str(DIGITS / f"{part}.npz") for part in ("train", "eval"))
    dense = given("digits", DIGITS / "digits.onnx", train, evaluation)
    with TemporaryDirectory() as folder:
        settings = CompressSettings(
            DIGITS / "digits.onnx", ratio, data=train, eval_data=evaluation, epochs=epochs,
            batch_size=32, threads=1, output=Path(folder) / "out", max_drop=1.0, min_speedup=0.0,
        )  # fmt: skip
        pipeline.compress(settings)
        compressed = load_model(Path(folder) / "out" / "model.onnx").model.clone(deep_copy=True)
    return [dense, replace(dense, name=f"digits at {ratio:g}", model=compressed)]


def measure(case: Case) -> list[dict[str, object]]:
    settings = CompressSettings(Path(case.name), 0.5, threads=1)
    forms = {
        name: case.model
        if name == "float32"
        else narrow(case.model, case.train, replace(settings, number_format=name)).model
        for name in NUMBER_FORMATS
    }
    sample = one_sample(signature_of(case.model), case.evaluation, settings)
    times = time_models(forms, sample, rounds=40)
    records: list[dict[str, object]] = []
    for name, model in forms.items():
        named = replace(settings, number_format=name)
        quality = measure_quality(case.model, model, case.evaluation, named)
        distance = compare(case.model, model, case.evaluation, named)
        records.append({
            "model": case.name,
            "format": name,
            "bytes": model_bytes(model),
            "metric": None if quality is None else quality.name,
            "value": None if quality is None else quality.compressed,
            "samples": len(case.evaluation),
            "max_rel_diff": distance.max_rel_diff,
            "ms": times[name].median_ms,
            "p10_ms": times[name].p10_ms,
            "p90_ms": times[name].p90_ms,
            "time_relative": times[name].median_ms / times["float32"].median_ms,
            "onnxruntime": version("onnxruntime"),
            "machine": platform.machine(),
        })  # fmt: skip
    return records


def print_table(records: list[dict[str, object]]) -> None:
    print("| model | format | bytes | accuracy | time, float32 = 1 | largest difference |")
    print("|---|---|---|---|---|---|")
    for r in records:
        value = "-" if r["value"] is None else f"{r['value']:.2%}"
        print(
            f"| {r['model']} | {r['format']} | {r['bytes']:,} | {value} | "
            f"{r['time_relative']:.2f} | {r['max_rel_diff']:.1e} |"
        )


if __name__ == "__main__":
    main()
