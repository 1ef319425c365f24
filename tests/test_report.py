"""The report: its schema, its numbers, and that text from outside stays text."""

import io
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from crespr_onnx.record import (
    ArtefactRecord,
    FileRecord,
    Latency,
    LayerRecord,
    Metric,
    Ratio,
    RemoteLatency,
    Report,
    Verification,
)
from crespr_onnx.report import compare, format_bytes, render_html, render_table, write_report
from crespr_onnx.tuning_record import KernelRecord, TuningRecord

FULL = Report(
    status="ok",
    exit_code=0,
    command="crespr-onnx compress in.onnx --ratio 0.98",
    config={"ratio": 0.98, "data": Path("train.npz")},
    seed=0,
    versions={"onnx": "1.23.2"},
    host={"cpu": "x86_64", "cores": 2},
    timings_s={"import": 6.2, "training": 60.0},
    input=FileRecord("in.onnx", "ab" * 32, 364_171),
    output=FileRecord("out/model.onnx", "cd" * 32, 12_171),
    artefact=ArtefactRecord(
        "out/model.so", "ef" * 32, 112_171, "cpu", "here", None, {"model.so": 112_171}
    ),
    tuning=TuningRecord(
        32,
        64,
        "tuning.jsonl",
        True,
        0.8,
        (
            KernelRecord("conv2d 8x1x3x3 on 1x1x8x8", 0.7, 32, 2.0, 1.5, "other tile"),
            KernelRecord("max_pool2d", 0.3, 0, 1.0, 1.0, "own schedule"),
        ),
    ),
    ratio=Ratio(0.98, 0.98, 89_600, 1_792, 2_103_040, 43_000, 364_171, 12_171),
    metric=Metric("accuracy", 0.9944, 0.9861, 0.0083, 360),
    latency_ms=Latency(1, 1, 0.08, 0.02, 0.01, "median of 200 calls"),
    verify=Verification(4, 1.2e-6, 3.4e-6, 1e-4, True),
    layers=(
        LayerRecord("/conv/Conv", "Conv", 1000, 250, 4, "grouped", ""),
        LayerRecord("/head/Gemm", "Gemm", 800, 800, 1, "dense", "'logits' is a graph output"),
    ),
)
REFUSED = Report(status="failed", exit_code=3, reasons=("in.onnx: not an ONNX model",))

# The contract of report.json; a change here is a change of schema.
SCHEMA_1 = {
    "": "schema status exit_code reasons command config seed versions host timings_s input output "
    "artefact tuning ratio metric latency_ms verify number_format layers",
    "input": "path sha256 bytes",
    "output": "path sha256 bytes",
    "artefact": "path sha256 bytes target ran remark files needs kernels layers",
    "tuning": "trials measured records used ratio kernels",
    "ratio": "requested physical weights_before weights_after macs_before macs_after "
    "bytes_before bytes_after mac_requested",
    "metric": "name dense compressed drop samples",
    "latency_ms": "batch threads dense_onnxruntime compressed_onnxruntime compressed_tvm method "
    "remote",
    "verify": "cases max_abs_diff max_rel_diff tolerance passed",
}
KERNEL_1 = "name share trials before_us after_us winner"
LAYER_1 = "name op weights_before weights_after clusters form reason"


def test_schema_is_frozen() -> None:
    document = FULL.to_dict()
    assert document["schema"] == 1
    for section, keys in SCHEMA_1.items():
        assert list(document[section] if section else document) == keys.split()
    assert [list(layer) for layer in document["layers"]] == [LAYER_1.split()] * 2
    assert [list(k) for k in document["tuning"]["kernels"]] == [KERNEL_1.split()] * 2


def test_a_failed_run_has_the_same_keys_and_empty_sections() -> None:
    document = REFUSED.to_dict()
    assert list(document) == SCHEMA_1[""].split()
    assert [document[name] for name in ("input", "ratio", "metric", "latency_ms")] == [None] * 4
    assert document["reasons"] == ["in.onnx: not an ONNX model"]
    assert document["layers"] == []


def test_files_hold_the_document_and_the_page(tmp_path: Path) -> None:
    write_report(FULL, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]
    text = (tmp_path / "report.json").read_text(encoding="utf-8")
    assert json.loads(text) == FULL.to_dict()
    assert text.endswith("}\n")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == render_html(FULL)


def test_values_from_numpy_become_plain_and_infinite_ones_null() -> None:
    config = {"a": np.int64(3), "b": np.float32(0.5), "c": math.nan, "d": (np.inf, True, None)}
    document = replace(FULL, config=config).to_dict()["config"]
    assert document == {"a": 3, "b": 0.5, "c": None, "d": [None, True, None]}
    assert [type(document[key]) for key in "ab"] == [int, float]


def test_a_value_that_json_cannot_hold_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    broken = replace(FULL, config={"passes": [object()]})
    with pytest.raises(TypeError, match=r"report\.config\.passes\[0\] is a object; the report"):
        write_report(broken, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_comparison_has_every_figure() -> None:
    assert [(c.name, c.before, c.after, c.change, c.worse) for c in compare(FULL)] == [
        ("weights", "89,600", "1,792", "50.0x fewer", False),
        ("MACs", "2,103,040", "43,000", "48.9x fewer", False),
        ("model file", "364.2 kB", "12.2 kB", "29.9x smaller", False),
        ("latency, ONNX Runtime", "0.080 ms", "0.020 ms", "4.0x faster", False),
        ("latency, TVM", "0.080 ms", "0.010 ms", "8.0x faster", False),
        ("split layers", "dense", "1 grouped", "1 of 2", False),
        ("kernels, TVM", "untuned", "1 of 2 tuned", "1.25x faster", False),
        ("accuracy", "99.44%", "98.61%", "-0.83 points", False),
    ]
    assert compare(REFUSED) == []


@pytest.mark.parametrize(
    ("onnxruntime", "tvm", "changes", "worse"),
    [
        (0.02, None, ["4.0x faster"], [False]),
        (0.10, None, ["1.25x slower"], [True]),
        (0.08, None, ["same"], [False]),
        (
            0.02,
            0.05,
            ["4.0x faster", "1.60x faster, but 2.50x slower than ONNX Runtime"],
            [False, True],
        ),
        (
            0.02,
            0.16,
            ["4.0x faster", "2.0x slower, and 8.00x slower than ONNX Runtime"],
            [False, True],
        ),
    ],
)
def test_slower_is_said(
    onnxruntime: float, tvm: float | None, changes: list[str], worse: list[bool]
) -> None:
    latency = Latency(1, 1, 0.08, onnxruntime, tvm, "")
    lines = compare(Report("ok", 0, latency_ms=latency))
    assert [line.change for line in lines] == changes
    assert [line.worse for line in lines] == worse


def test_times_of_another_machine_have_a_line_of_their_own() -> None:
    remote = RemoteLatency("pi:9090", 3.0, 4.5, "by its own <clock>")
    report = Report("ok", 0, latency_ms=Latency(1, 1, 0.08, 0.04, None, "", remote))
    last = compare(report)[-1]
    assert (last.name, last.before, last.after) == (
        "latency on pi:9090, TVM", "3.000 ms", "4.500 ms",
    )  # fmt: skip
    assert (last.change, last.worse) == ("1.50x slower", True)
    assert "pi:9090: by its own &lt;clock&gt;</p>" in render_html(report)


def test_a_metric_that_is_no_share_keeps_its_unit() -> None:
    (line,) = compare(Report("ok", 0, metric=Metric("mean error", 0.25, 0.2625, -0.0125, 10)))
    assert (line.before, line.after, line.change) == ("0.25", "0.2625", "+0.0125")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (25_500_000_000, "25.5 GB"),
    ],
)
def test_sizes(size: int, text: str) -> None:
    assert format_bytes(size) == text


class PageReader(HTMLParser):
    """Collects text, tag names and attribute values, and checks that tags are closed in order."""

    VOID = frozenset({"meta", "br"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.tags, self.values, self.open = "", set(), [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.values += [value or "" for _, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_page_shows_the_figures() -> None:
    page = PageReader(render_html(FULL))
    text = re.sub(r"\s+", " ", page.text)
    for figure in (
        "98.00% of the weights removed",
        "89,600",
        "50.0x fewer",
        "364.2 kB",
        "8.0x faster",
        "98.61%",
        "-0.83 points",
        "Passed: 4 cases, largest difference 1.2e-06 absolute, 3.4e-06 relative",
        "25.0%",
        "'logits' is a graph output",
        "import 6.2, training 60.0",
        "accuracy on 360 samples",
    ):
        assert figure in text
    # The bars: dense is the longest; the others are a quarter and an eighth of it.
    widths = re.findall(r'<rect [^>]*width="([\d.]+)"', render_html(FULL))
    assert [float(width) for width in widths] == [360.0, 90.0, 45.0]


def test_page_shows_what_was_asked_of_multiply_accumulates() -> None:
    assert "multiply-accumulates" not in PageReader(render_html(FULL)).text
    assert FULL.ratio is not None
    asked = replace(FULL, ratio=replace(FULL.ratio, mac_requested=0.95))
    text = re.sub(r"\s+", " ", PageReader(render_html(asked)).text)
    assert "97.96% of the multiply-accumulates (95.00% requested)" in text


def test_page_needs_nothing_from_outside() -> None:
    page = PageReader(render_html(FULL))
    assert page.tags.isdisjoint({"script", "link", "img", "iframe", "object"})
    assert not [value for value in page.values if "://" in value]
    assert "url(" not in render_html(FULL)
    assert "@import" not in render_html(FULL)


def test_page_of_a_refused_model_says_why() -> None:
    text = re.sub(r"\s+", " ", PageReader(render_html(REFUSED)).text)
    assert "failed exit code 3" in text
    assert "in.onnx: not an ONNX model" in text
    assert "Before and after" not in text


def test_an_infinite_difference_is_said() -> None:
    verify = Verification(4, math.inf, math.nan, 1e-4, False)
    text = re.sub(r"\s+", " ", PageReader(render_html(replace(REFUSED, verify=verify))).text)
    assert "FAILED: 4 cases, largest difference not finite absolute, not finite relative" in text


def test_text_from_a_model_stays_text() -> None:
    hostile = "</td><script>alert(1)</script>\" onload='x'"
    layer = LayerRecord(hostile, hostile, 10, 5, 1, hostile, hostile)
    report = replace(
        FULL,
        input=FileRecord(hostile),
        layers=(layer,),
        reasons=(hostile,),
        command=hostile,
        config={hostile: hostile},
        metric=Metric(hostile, 1.0, 0.5, 0.5, 10),
        latency_ms=replace(FULL.latency_ms, method=hostile),
    )
    page = PageReader(render_html(report))
    assert "script" not in page.tags
    assert page.text.count(hostile) == 14


def table_text(report: Report) -> str:
    stream = io.StringIO()
    render_table(report, Console(file=stream, width=100))
    return stream.getvalue()


def test_table_on_the_terminal() -> None:
    lines = [re.split(r"\s+│\s+", line.strip()) for line in table_text(FULL).splitlines()]
    assert [row for row in lines if len(row) == 4] == [
        [c.name, c.before, c.after, c.change] for c in compare(FULL)
    ]


def test_table_takes_no_markup_from_outside() -> None:
    report = Report("ok", 0, metric=Metric("[red]x[/red]", 1.0, 1.0, 0.0, 10))
    assert "[red]x[/red]" in table_text(report)


def test_no_table_where_nothing_was_measured() -> None:
    assert table_text(REFUSED) == ""
