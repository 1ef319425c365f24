"""Runs that choose the forms of their layers by measurement."""

import re
from pathlib import Path
from typing import Any

import onnx
import pytest
from pipeline_models import DIGITS, compress, stored

from crespr_onnx import pipeline
from crespr_onnx.progress import Progress
from crespr_onnx.settings import CompressSettings

FIGURES = re.compile(
    r"2 clusters, each reads \d+ of \d+ inputs; (grouped|batched) [\d.,]+ us, "
    r"separate [\d.,]+ us, dense [\d.,]+ us; measured in ONNX Runtime(; .*)?"
)
DIGITS_RUN: dict[str, Any] = {
    "model": DIGITS / "digits.onnx", "data": None, "epochs": 0, "ratio": 0.9, "form": "auto",
}  # fmt: skip


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache in which nothing is known."""
    monkeypatch.setenv("CRESPR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_forms_are_measured_once(tmp_path: Path, cache: Path) -> None:
    told: list[Progress] = []
    report = compress(tmp_path, told.append, output=tmp_path / "a", **DIGITS_RUN)
    assert (report.exit_code, report.verify is not None and report.verify.passed) == (0, True)
    assert "forms" in report.timings_s
    stages = list(dict.fromkeys(p.stage for p in told))
    assert stages[stages.index("choosing forms") + 1] == "verifying"
    split = [layer for layer in report.layers if layer.clusters > 1]
    assert len(split) == 3
    for layer in split:
        assert FIGURES.fullmatch(layer.reason), layer.reason
        assert layer.form in ("grouped", "batched", "separate", "dense")
    assert report.ratio is not None
    assert report.ratio.physical >= 0.9
    assert sum(layer.weights_after for layer in report.layers) == report.ratio.weights_after
    files = {path: path.stat().st_mtime_ns for path in (cache / "forms").iterdir()}
    again = compress(tmp_path, output=tmp_path / "b", **DIGITS_RUN)
    assert {path: path.stat().st_mtime_ns for path in (cache / "forms").iterdir()} == files
    assert again.layers == report.layers
    assert (tmp_path / "a/model.onnx").read_bytes() == (tmp_path / "b/model.onnx").read_bytes()


def test_the_report_names_the_form_that_was_emitted(tmp_path: Path, cache: Path) -> None:
    compress(tmp_path, **DIGITS_RUN)
    graph = onnx.load(tmp_path / "out" / "model.onnx").graph
    made = [n for n in graph.node if n.op_type in ("Conv", "Gemm", "MatMul")]
    count = {"separate": 2}
    layers = stored(tmp_path / "out")["layers"]
    assert len(made) == sum(count.get(layer["form"], 1) for layer in layers)


def test_a_model_without_clusters_is_not_timed(tmp_path: Path, cache: Path) -> None:
    report = compress(tmp_path, epochs=0, clusters=1, form="auto")
    assert report.exit_code == 0
    assert "forms" not in report.timings_s
    assert not cache.exists()


def test_a_plan_measures_nothing(cache: Path) -> None:
    settings = CompressSettings(DIGITS / "digits.onnx", 0.9, epochs=0, clusters=2)
    layers = pipeline.plan(settings).layers
    assert [layer.form for layer in layers if layer.clusters > 1] == ["auto"] * 3
    assert not cache.exists()


@pytest.mark.parametrize("form", ["grouped", "separate"])
def test_a_form_that_is_given_is_not_measured(tmp_path: Path, cache: Path, form: str) -> None:
    report = compress(tmp_path, **{**DIGITS_RUN, "form": form})
    assert "forms" not in report.timings_s
    assert not cache.exists()


def test_the_artefact_has_forms_of_its_own(tmp_path: Path, cache: Path) -> None:
    told: list[Progress] = []
    report = compress(tmp_path, told.append, target="cpu", **DIGITS_RUN)
    assert report.exit_code == 0, report.reasons
    assert "choosing forms of the artefact" in [p.stage for p in told]
    artefact = report.artefact
    assert artefact is not None
    assert [layer.name for layer in artefact.layers] == [
        layer.name for layer in report.layers if layer.clusters > 1
    ]
    for layer in artefact.layers:
        assert re.fullmatch(r"(.* us; measured in TVM.*|not timed: by a cost .*)", layer.reason)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Forms in the artefact" in page
    # Nothing is left of the model that it was compiled from.
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "config.toml", "model.onnx", "modules.json", "report.html", "report.json", "model.so",
        "artefact.json", "run.py",
    }  # fmt: skip
