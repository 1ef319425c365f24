"""`bench --rpc`: compiled models on another machine, here TVM's RPC server on loopback."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench_folders import results
from pipeline_models import write_mlp
from rpc_servers import free_port, rpc_server

from crespr_onnx.bench.settings import BenchSettings
from crespr_onnx.errors import UsageError
from crespr_onnx.targets.remote import Board

QUICK = ("--batch", "1", "--repeats", "3", "--quiet", "--json")


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    with rpc_server(tmp_path_factory.mktemp("server")) as found:
        yield found


def test_compiled_models_are_compared_where_they_ran(
    call: Any, tmp_path: Path, board: Board
) -> None:
    out = results(tmp_path / "out", config={"target": "cpu"})
    options = ("--threads", "1", "--rpc", str(board), "--min-speedup", "1000")
    code, text, err = call("bench", str(out), *QUICK, *options)
    document = json.loads(text)
    assert code == 6, err
    here, there = document["rows"][:2], document["rows"][2:]
    assert [(row["model"], row["engine"], row["device"]) for row in here] == [
        ("dense", "onnxruntime", None), ("compressed", "onnxruntime", None),
    ]  # fmt: skip
    assert [(row["model"], row["engine"], row["device"]) for row in there] == [
        ("dense", "tvm", str(board)), ("compressed", "tvm", str(board)),
    ]  # fmt: skip
    assert there[0]["speed_up"] == 1.0
    assert there[1]["speed_up"] == there[0]["median_ms"] / there[1]["median_ms"]
    assert [row["floor_ms"] for row in there] == [None, None]
    assert there[0]["method"].startswith(f"{board}, through TVM's RPC and by its own clock: ")
    (reason,) = document["reasons"]
    assert reason.endswith(
        f"times as fast as dense compiled on {board} at batch 1 on one thread; --min-speedup asks "
        "for 1000"
    )
    assert document["notes"] == []


def test_the_table_names_the_machine(call: Any, tmp_path: Path, board: Board) -> None:
    out = results(tmp_path / "out", config={"target": "cpu"})
    options = ("--batch", "2", "--threads", "2", "--repeats", "2", "--quiet")
    plot = tmp_path / "speed.svg"
    code, text, err = call("bench", str(out), *options, "--rpc", str(board), "--plot", str(plot))
    assert code == 0, err
    assert text.count(f"TVM on {board}") == 2
    assert "<svg" in plot.read_text()


def test_a_device_that_is_not_there(call: Any, tmp_path: Path) -> None:
    out = results(tmp_path / "out", config={"target": "cpu"})
    board = Board("127.0.0.1", free_port())
    code, text, err = call("bench", str(out), *QUICK, "--rpc", str(board))
    assert (code, text) == (8, "")
    assert err.startswith(f"error: cannot connect to {board}: Connection refused\n")


def test_what_cannot_be_sent(call: Any, tmp_path: Path) -> None:
    out = results(tmp_path / "out")
    code, _, err = call("bench", str(out), *QUICK, "--rpc", "pi:9090")
    assert code == 2
    assert "target 'onnx' makes no artefact; use --target cpu, arm64 or cuda" in err
    code, _, err = call("bench", str(write_mlp(tmp_path)), *QUICK, "--rpc", "pi:9090")
    assert code == 2
    assert "--rpc times the artefacts of folders that compress wrote; give such a folder" in err


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"rpc": "pi"}, r"^--rpc is 'pi'; it must be HOST:PORT of a TVM RPC server"),
        ({"rpc": "pi:9090", "threads": (0,)}, r"^--rpc needs a number of threads, since how many"),
        (
            {"rpc": "pi:9090", "threads": (2,), "min_speedup": 2.0},
            r"^--min-speedup is decided at batch 1 on one thread; add --batch 1 --threads 1$",
        ),
    ],
)
def test_settings_that_cannot_be_kept(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        BenchSettings((Path("out"),), **changes).check()
