"""Whole runs that measure on another machine: TVM's RPC server on the loopback interface."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pipeline_models import compress, tree, write_mlp
from rpc_servers import free_port, rpc_server

from crespr_onnx.cli import run
from crespr_onnx.errors import CompileError, UsageError
from crespr_onnx.targets.remote import Board


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    with rpc_server(tmp_path_factory.mktemp("server")) as found:
        yield found


def test_the_report_says_where_it_was_measured(tmp_path: Path, board: Board) -> None:
    report = compress(tmp_path, target="cpu", epochs=0, rpc=str(board), min_speedup=0.0)
    assert (report.status, report.exit_code) == ("ok", 0), report.reasons
    document = json.loads((tmp_path / "out" / "report.json").read_text())
    assert document["artefact"]["ran"] == "remote"
    assert document["reasons"] == [
        f"the artefact for cpu was run, checked and timed on {board}, beside the dense model "
        "compiled for it; times of ONNX Runtime are this machine's"
    ]
    latency = document["latency_ms"]
    assert latency["compressed_tvm"] is None
    remote = latency["remote"]
    assert list(remote) == ["device", "dense_tvm", "compressed_tvm", "method"]
    assert remote["device"] == str(board)
    assert remote["method"].startswith(f"on {board} through TVM's RPC, by its own clock: ")
    assert 0 < remote["dense_tvm"] < 10
    assert 0 < remote["compressed_tvm"] < 10
    assert f"latency on {board}, TVM" in (tmp_path / "out" / "report.html").read_text()
    assert [name for name in tree(tmp_path / "out") if name.startswith(".")] == []


def test_a_device_for_which_it_was_not_compiled(tmp_path: Path, board: Board) -> None:
    """A library for AArch64, on a machine that is none: compiled, delivered, and refused there."""
    report = compress(tmp_path, target="arm64", epochs=0, rpc=str(board))
    assert report.exit_code == CompileError.exit_code
    assert report.reasons == (
        f"{board} cannot load the artefact: it was compiled for another kind of machine; give the "
        "--target that this one is",
        f"the artefact for arm64 has not run on {board}",
    )
    assert report.artefact is not None
    assert report.artefact.ran == "nowhere"
    assert report.latency_ms is None


def test_nothing_is_begun_if_the_device_is_not_there(tmp_path: Path) -> None:
    board = Board("127.0.0.1", free_port())
    with pytest.raises(CompileError, match=f"^cannot connect to {board}: Connection refused"):
        compress(tmp_path, target="cpu", epochs=0, rpc=str(board))
    assert not (tmp_path / "out").exists()


def test_a_target_that_makes_nothing_to_send(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match="target 'onnx' makes no artefact; use --target cpu, arm64"
    ):
        compress(tmp_path, epochs=0, rpc="127.0.0.1:9090")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("rpc", ["pi", "pi:0", "pi:99999", ":9090"])
def test_a_malformed_value_ends_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rpc: str
) -> None:
    command = ["compress", str(write_mlp(tmp_path)), "--ratio", "0.5", "--target", "cpu"]
    assert run([*command, "--rpc", rpc]) == 2
    err = capsys.readouterr().err
    assert f"--rpc is '{rpc}'; it must be HOST:PORT of a TVM RPC server" in err
