"""Exports of the model zoo go through every stage: inspect, import, train, write back, compress."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "samples" / "benchmarks"))

import model_zoo
import survey_stages
from survey_table import print_tables

FEW = ("mlp", "resnet", "squeeze_excite", "unet")


def outcome(path: Path) -> dict[str, Any]:
    """The last record of the survey, which holds all stages."""
    *_, record = survey_stages.survey(path, {})
    return record


def require_ok(record: dict[str, Any]) -> None:
    stages = {stage: record[stage] for stage in survey_stages.STAGES}
    assert {stage: result["status"] for stage, result in stages.items()} == dict.fromkeys(
        stages, "ok"
    ), stages


@pytest.mark.parametrize("name", FEW)
def test_an_export_passes_every_stage(name: str, tmp_path: Path) -> None:
    record = outcome(model_zoo.export(name, "torchscript", 17, tmp_path))
    require_ok(record)
    assert record["parity"]["batches"] == [1, 2, 5]
    assert record["write_back"]["moved"] > 0
    assert record["compress"]["physical"] >= 0.5
    assert record["branches"]["split"] > 0


@pytest.mark.parametrize("name", ["tensorflow_cnn", "tensorflow_residual", "paddle", "opset7"])
def test_a_built_graph_compresses(name: str, tmp_path: Path) -> None:
    record = outcome(model_zoo.build(name, tmp_path))
    assert record["inspect"]["status"] == "ok", record["inspect"]
    assert record["compress"]["status"] == "ok", record["compress"]
    assert record["compress"]["physical"] >= 0.5


def test_a_file_that_is_no_model_is_refused_with_its_reason(tmp_path: Path) -> None:
    model = model_zoo.BUILT["paddle"]()
    model.graph.node[-1].op_type = "NoSuchOperator"
    path = tmp_path / "unknown.onnx"
    onnx.save(model, path)
    record = outcome(path)
    assert record["inspect"]["status"] == "refused"
    assert "NoSuchOperator" in record["inspect"]["error"]
    assert record["parity"] == record["compress"] == {"status": "skipped"}


def test_the_table_counts_models_and_lists_failures(capsys: pytest.CaptureFixture[str]) -> None:
    passed = {stage: {"status": "ok"} for stage in survey_stages.STAGES}
    failed = {**passed, "parity": {"status": "failed", "error": "far away"}}
    inspect = {"nodes": 5, "weights": 1528, "clusterable_share": 0.5, "max_ratio": 0.983}
    more = {
        "opset": 17,
        "inspect": {"status": "ok", "seconds": 0.1, **inspect},
        "write_back": {"status": "ok", "worst": 1e-7},
        "compress": {"status": "ok", "physical": 0.5},
    }
    print_tables(
        [
            {"model": "a-dynamo-17", **passed, **more, "parity": {"status": "ok", "worst": 2e-7}},
            {"model": "b-dynamo-17", **failed, **more},
            {"model": "c-dynamo-13", "exporter": "it writes opset 18 when asked for 13"},
        ]
    )
    text = capsys.readouterr().out
    assert "| 1,528 | 50% | 98.3% | 0.10 s | ok | 2e-07 | 1e-07 | 0.500 | no room |" in text
    shares = "2 (100%) | 2 (100%) | 1 (50%) | 2 (100%) | 2 (100%) | 2 (100%)"
    assert f"| torch, dynamo | 2 | {shares} |" in text
    assert "- b-dynamo-17: parity: far away" in text
    assert "- c-dynamo-13: it writes opset 18 when asked for 13" in text


def zoo(origin: str, folder: Path) -> Iterator[Path]:
    """The graphs of one origin that can be made at all."""
    if origin == "built":
        yield from (model_zoo.build(name, folder) for name in model_zoo.BUILT)
        return
    for name in model_zoo.FAMILIES:
        for opset in model_zoo.OPSETS[origin]:
            # What the exporter cannot do is no fault of ours.
            with contextlib.suppress(model_zoo.ExporterError):
                yield model_zoo.export(name, origin, opset, folder)


@pytest.mark.slow
@pytest.mark.parametrize("origin", ["built", *model_zoo.OPSETS])
def test_the_whole_zoo(origin: str, tmp_path: Path) -> None:
    records = [outcome(path) for path in zoo(origin, tmp_path)]
    assert len(records) >= len(model_zoo.BUILT)
    failed = {
        (record["model"], stage): record[stage]
        for record in records
        for stage in survey_stages.STAGES
        if record[stage]["status"] != "ok"
    }
    assert failed == {}
