"""Which models work: inspects, imports, trains, writes back and compresses each of them.

    python samples/benchmarks/model_zoo.py --out zoo
    python samples/benchmarks/import_survey.py --models MODELS --models zoo --out survey.jsonl
    python samples/benchmarks/import_survey.py --table survey.jsonl

One JSON line per model. Each model has a process of its own with a time limit, so none can stop the
survey. A later line for the same model replaces an earlier one in the table.
"""

import argparse
import json
import multiprocessing
import sys
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

from survey_stages import STAGES, survey
from survey_table import print_tables

SHAPES = {
    "ppocr_mobile_cls": {"x": (1, 3, 48, 192)},
    "ppocrv4_det": {"x": (1, 3, 160, 160)},
    "yunet_n_dynamic": {"input": (1, 3, 160, 160)},
}
"""For models whose inputs are dynamic besides the batch."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, action="append", help="folder or file")
    parser.add_argument("--only", help="part of the names of the models to take")
    parser.add_argument("--out", type=Path, help="JSON lines are appended here")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds per model")
    parser.add_argument("--table", type=Path, help="prints the tables of this file instead")
    arguments = parser.parse_args()
    if arguments.table:
        lines = arguments.table.read_text().splitlines()
        print_tables([json.loads(line) for line in lines])
        return
    if not arguments.models:
        parser.error("give --models or --table")
    # Children are forked from a process that has imported the slow libraries and started no thread.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["survey_stages", "onnx2torch", "crespr_onnx.pipeline"])
    for record in unavailable(arguments.models):
        write(record, arguments.out)
    for path in files(arguments.models):
        if arguments.only and arguments.only not in path.stem:
            continue
        record = guarded(context, path, arguments.limit)
        failed = next((s for s in STAGES if record.get(s, {}).get("status") != "ok"), None)
        detail = "ok" if failed is None else f"{failed}: {record.get(failed)}"
        print(f"{path.stem}: {detail}", file=sys.stderr, flush=True)
        write(record, arguments.out)


def write(record: dict[str, Any], path: Path | None) -> None:
    if path is not None:
        with path.open("a") as out:
            out.write(json.dumps(record) + "\n")


def unavailable(sources: list[Path]) -> list[dict[str, Any]]:
    """What the exporters could not do, which is no failure of ours (see model_zoo.py)."""
    notes = [source / "unavailable.jsonl" for source in sources]
    return [json.loads(line) for note in notes if note.is_file() for line in note.open()]


def files(sources: list[Path]) -> list[Path]:
    return [
        path
        for source in sources
        for path in (sorted(source.glob("*.onnx")) if source.is_dir() else [source])
    ]


def guarded(context: ForkServerContext, path: Path, limit: float) -> dict[str, Any]:
    """The record of one model, whatever happens to the process that makes it."""
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=send, args=(theirs, path, SHAPES.get(path.stem, {})))
    process.start()
    theirs.close()
    record: dict[str, Any] = {"model": path.stem}
    why = f"no answer within {limit:g} s"
    try:
        # Stages arrive one by one, so those before a crash are kept.
        while ours.poll(limit):
            record = ours.recv()
    except EOFError:
        why = "the process died"
    if process.is_alive() and not record.get("done"):
        process.join(1.0)
    process.kill()
    process.join()
    if not record.pop("done", False):
        stage = next(stage for stage in STAGES if stage not in record)
        record[stage] = {"status": "failed", "error": f"{why} (exit code {process.exitcode})"}
    return record


def send(pipe: Connection, path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    for record in survey(path, shapes):
        pipe.send(record)


if __name__ == "__main__":
    main()
