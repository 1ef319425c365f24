"""What tuning found is kept, found again, and not taken for what it is not."""

import json

import pytest

from crespr_onnx.errors import UsageError
from crespr_onnx.targets.tuning.records import Record, append_records, read_records

ZEN = {"kind": "llvm", "mcpu": "znver4", "num-cores": 1}
TILE = Record("matmul", 8, 0.8, tile=(8, 2, 3))
TRACE = Record("00ff", 4, 0.9, trace=[[["GetBlock", [], ["x", "main"], ["b0"]]], []])
MODEL = Record("ab", 8, None, kernels=[{"name": "matmul", "winner": "other tile"}])


def test_records_come_back(tmp_path):
    path = tmp_path / "folder" / "records.jsonl"
    assert read_records(path, ZEN) == {}
    append_records(path, ZEN, [TILE, TRACE])
    append_records(path, ZEN, [MODEL])
    assert read_records(path, ZEN) == {"matmul": TILE, "00ff": TRACE, "ab": MODEL}


def test_the_last_one_counts(tmp_path):
    path = tmp_path / "records.jsonl"
    later = Record("matmul", 16, 1.0)
    append_records(path, ZEN, [TILE, later])
    assert read_records(path, ZEN) == {"matmul": later}


@pytest.mark.parametrize(
    "other",
    [ZEN | {"mcpu": "skylake"}, ZEN | {"num-cores": 2}, ZEN | {"mattr": ["+avx2"]}],
)
def test_records_of_another_target_are_not_used(tmp_path, other):
    path = tmp_path / "records.jsonl"
    append_records(path, ZEN, [TILE])
    assert read_records(path, other) == {}


@pytest.mark.parametrize(("key", "value"), [("tvm", "0.26.0"), ("schema", 0)])
def test_records_of_another_version_are_not_used(tmp_path, key, value):
    path = tmp_path / "records.jsonl"
    append_records(path, ZEN, [TILE])
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | {key: value}) + "\n")
    assert read_records(path, ZEN) == {}


def test_a_line_that_was_cut_off_costs_only_itself(tmp_path):
    path = tmp_path / "records.jsonl"
    append_records(path, ZEN, [TILE, TRACE])
    path.write_bytes(path.read_bytes()[:-20])
    assert read_records(path, ZEN) == {"matmul": TILE}
    append_records(path, ZEN, [MODEL])
    assert read_records(path, ZEN) == {"matmul": TILE, "ab": MODEL}


@pytest.mark.parametrize("content", ["\x7fELF\n", "[1]\n", '{"name": "x"}\n'])
def test_another_file_is_refused(tmp_path, content):
    path = tmp_path / "records.jsonl"
    path.write_text(content)
    with pytest.raises(UsageError, match="line 1 is no tuning record; give a file that --tune N"):
        read_records(path, ZEN)


def test_a_file_that_cannot_be_read_or_written(tmp_path):
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        read_records(tmp_path, ZEN)
    with pytest.raises(UsageError, match="cannot be written: Is a directory"):
        append_records(tmp_path, ZEN, [TILE])
