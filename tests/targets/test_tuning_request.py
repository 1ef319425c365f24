"""What can be tuned, and where."""

from pathlib import Path

import pytest

from crespr_onnx.errors import UsageError
from crespr_onnx.targets import find_target
from crespr_onnx.targets.remote import Board
from crespr_onnx.targets.system import AARCH64, is_here
from crespr_onnx.targets.tuning.request import Tuning, find_tuning

DEFAULT = Path("cache/tuning.jsonl")
BOARD = Board("pi", 9090)


def find(trials, records, target, board=None):
    return find_tuning(trials, records, DEFAULT, 3, find_target(target), board)


def test_nothing_asked_for_is_nothing():
    assert find(0, None, "onnx") is None
    assert find(0, None, "cuda") is None


def test_where_records_are_kept(tmp_path):
    assert find(8, None, "cpu") == Tuning(8, DEFAULT, 3)
    assert find(8, "mine.jsonl", "cpu") == Tuning(8, Path("mine.jsonl"), 3)
    assert find(8, None, "arm64:cortex-a72", BOARD) == Tuning(8, DEFAULT, 3, BOARD)
    found = tmp_path / "records.jsonl"
    found.touch()
    assert find(0, str(found), "arm64") == Tuning(0, found, 3)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("onnx", "^--tune tunes what is compiled, and for target 'onnx' nothing is; use --target"),
        ("armv7", "^--tune tunes kernels for CPUs in TVM's runtime, and target 'armv7' is none"),
        ("cuda:sm_90", "^--tune tunes kernels for CPUs in TVM's runtime, and target 'cuda:sm_90'"),
    ],
)
@pytest.mark.parametrize("board", [None, BOARD])
def test_targets_whose_kernels_are_not_tuned(target, message, board):
    with pytest.raises(UsageError, match=message):
        find(8, None, target, board)


@pytest.mark.skipif(is_here(AARCH64), reason="this machine is an AArch64 one")
def test_kernels_that_do_not_run_here_need_a_board():
    with pytest.raises(UsageError, match="those for 'arm64' do not run here; give --rpc HOST:PORT"):
        find(8, None, "arm64")


def test_records_that_are_none(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x08\x08\n\n")
    with pytest.raises(UsageError, match=r"model\.onnx: line 1 is no tuning record"):
        find(8, str(path), "cpu")


def test_records_that_are_to_be_applied_must_be_there():
    with pytest.raises(UsageError, match=r"^none\.jsonl: no such file; --tune N writes one$"):
        find(0, "none.jsonl", "cpu")
    with pytest.raises(UsageError, match=r"^--tuning-records tunes what is compiled"):
        find(0, "none.jsonl", "onnx")
