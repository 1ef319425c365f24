"""Measuring on another machine: TVM's RPC server on loopback, and everything that can be wrong."""

import socket
import struct
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import numpy as np
import onnx
import pytest
from rpc_servers import free_port, in_between, rpc_server, rpc_tracker, silent_server, small_tracker

from crespr_onnx.errors import CompileError, UsageError
from crespr_onnx.targets import find_target
from crespr_onnx.targets.check import run_artefact
from crespr_onnx.targets.compile import compile_model
from crespr_onnx.targets.remote import (
    Board,
    find_board,
    greet,
    parse_board,
    run_remote,
    time_remote,
)

CPU = find_target("cpu")
INPUTS = {"x": np.random.default_rng(1).normal(size=(2, 16)).astype(np.float32)}


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compiled MLP with two outputs."""
    folder = tmp_path_factory.mktemp("artefact")
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        mlp (float[2, 16] x) => (float[2, 64] hidden, float[2, 4] y) {
            a = MatMul (x, w1)
            hidden = Relu (a)
            y = MatMul (hidden, w2)
        }"""
    )
    rng = np.random.default_rng(0)
    for name, shape in {"w1": (16, 64), "w2": (64, 4)}.items():
        array = rng.normal(size=shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    onnx.save(model, folder / "mlp.onnx")
    compile_model(folder / "mlp.onnx", folder, CPU)
    return folder


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    with rpc_server(tmp_path_factory.mktemp("server")) as found:
        yield found


@pytest.fixture(scope="module")
def pi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    """A server that wants to be asked for by a key."""
    with rpc_server(tmp_path_factory.mktemp("pi"), "--key", "pi") as found:
        yield found


def test_outputs_are_those_of_this_machine(artefact: Path, board: Board) -> None:
    # The same library on the same processor.
    here, there = run_artefact(artefact, INPUTS), run_remote(board, artefact, INPUTS)
    assert list(there) == ["hidden", "y"]
    for name, array in here.items():
        np.testing.assert_array_equal(there[name], array)


def test_times_are_taken_in_turns(artefact: Path, board: Board) -> None:
    folders = {"dense": artefact, "compressed": artefact}
    times = time_remote(board, folders, INPUTS, rounds=7, round_seconds=0.002)
    assert list(times) == ["dense", "compressed"]
    assert [len(turns) for turns in times.values()] == [7, 7]
    # The same model: a factor of three is the machine's business, microseconds are.
    medians = [median(turns) for turns in times.values()]
    assert 1 / 3 < medians[0] / medians[1] < 3
    assert all(1e-5 < milliseconds < 10 for milliseconds in medians)


def test_threads_are_set_there(artefact: Path, board: Board) -> None:
    times = time_remote(board, {"it": artefact}, INPUTS, threads=2, rounds=2, round_seconds=0.001)
    assert len(times["it"]) == 2


def test_wrong_inputs_are_told_before_anything_is_sent(artefact: Path, board: Board) -> None:
    wrong = {"x": np.zeros((1, 16), np.float32)}
    text = r"input 'x' is float32\[1, 16\], but the model was compiled for float32\[2, 16\]"
    with pytest.raises(CompileError, match=text):
        run_remote(board, artefact, wrong)


@pytest.mark.slow
def test_a_tracker_finds_the_device(artefact: Path, tmp_path: Path) -> None:
    if find_spec("tornado") is None:
        pytest.skip("TVM's tracker needs the package tornado")
    with rpc_tracker(tmp_path, "pi") as pi:
        check_tracker(pi, artefact)


def test_a_small_tracker_finds_the_device(artefact: Path, pi: Board) -> None:
    with small_tracker(pi, "pi") as tracker:
        check_tracker(tracker, artefact)


def check_tracker(pi: Board, artefact: Path) -> None:
    assert run_remote(pi, artefact, INPUTS)["y"].shape == (2, 4)
    tracker = Board(pi.host, pi.port, "jetson")
    text = rf"^the tracker {pi.host}:{pi.port} knows no device 'jetson'; known devices: pi$"
    with pytest.raises(CompileError, match=text):
        greet(tracker)


def test_nobody_listens() -> None:
    board = Board("127.0.0.1", free_port())
    text = rf"^cannot connect to {board}: Connection refused\nIs TVM's RPC server running there\?"
    with pytest.raises(CompileError, match=text):
        greet(board)
    tracker = Board("127.0.0.1", board.port, "pi")
    text = rf"^cannot connect to the tracker {board}: Connection refused$"
    with pytest.raises(CompileError, match=text):
        greet(tracker)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("", r"^{} does not answer as TVM's RPC server within 1 s: it cannot be reached, is busy"),
        ("pi", r"^{} does not answer as TVM's RPC tracker within 1 s$"),
    ],
)
def test_a_server_that_never_answers(key: str, text: str) -> None:
    with silent_server() as board:
        start = time.monotonic()
        with pytest.raises(CompileError, match=text.format(board)):
            greet(Board(board.host, board.port, key), connect_s=1.0)
        assert time.monotonic() - start < 30


def test_a_server_with_a_key(pi: Board) -> None:
    text = rf"^the server at {pi} asks for a key; give its tracker as --rpc HOST:PORT/KEY"
    with pytest.raises(CompileError, match=text):
        greet(pi)


@pytest.mark.slow
def test_a_busy_device_is_not_waited_for(tmp_path: Path) -> None:
    """One session at a time: the second one waits, and here gives up."""
    # A server of its own: TVM's does not survive a session that ends before it has begun.
    with rpc_server(tmp_path) as board, socket.create_connection((board.host, board.port)) as busy:
        key = b"client:"
        busy.sendall(struct.pack("<ii", 0xFF271, len(key)) + key)
        assert struct.unpack("<i", busy.recv(4))[0] == 0xFF271
        with pytest.raises(CompileError, match="is busy with another session"):
            greet(board, connect_s=2.0)


def test_a_server_of_another_version(board: Board) -> None:
    greeting = b"\x05" + bytes(7)  # the length of what follows: the version of the protocol

    def other_version(data: bytes, _: int) -> bytes:
        start = data.find(greeting) + len(greeting)
        return data if start < len(greeting) else data[:start] + b"0.0.1" + data[start + 5 :]

    with in_between(board, other_version) as altered:
        text = rf"^{altered} runs another version of TVM: .*; install apache-tvm [0-9.]+"
        with pytest.raises(CompileError, match=text):
            greet(altered)


def test_a_connection_that_dies_in_the_middle(artefact: Path, board: Board) -> None:
    def cut(data: bytes, before: int) -> bytes | None:
        return None if before > 20_000 else data

    with in_between(board, cut) as altered:
        text = rf"^the connection to {altered} broke while it was to run the artefact: "
        with pytest.raises(CompileError, match=text):
            run_remote(altered, artefact, INPUTS)
    # The board itself has survived it.
    greet(board)


def test_a_session_that_takes_too_long(artefact: Path, board: Board) -> None:
    text = rf"^the session on {board} that was to time the artefact took more than 2 s$"
    with pytest.raises(CompileError, match=text):
        time_remote(board, {"it": artefact}, INPUTS, rounds=500, round_seconds=1.0, timeout=2.0)


@pytest.mark.parametrize(
    ("text", "board"),
    [
        ("pi:9090", Board("pi", 9090)),
        ("192.168.1.7:9190/orin", Board("192.168.1.7", 9190, "orin")),
        ("[::1]:9090", Board("::1", 9090)),
        ("h.example:65535/a/b", Board("h.example", 65535, "a/b")),
    ],
)
def test_boards_are_read_and_shown(text: str, board: Board) -> None:
    assert parse_board(text) == board
    assert str(board) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pi",
        "pi:",
        ":9090",
        "pi:0",
        "pi:65536",
        "pi:port",
        "pi:9090/",
        "a b:9090",
        "http://pi:1",
    ],
)
def test_what_is_no_board(text: str) -> None:
    with pytest.raises(UsageError, match=r"--rpc is '.*'; it must be HOST:PORT of a TVM RPC serv"):
        parse_board(text)


def test_targets_whose_artefacts_cannot_be_sent() -> None:
    assert find_board(None, find_target("onnx")) is None
    assert find_board("pi:9090", find_target("arm64")) == Board("pi", 9090)
    with pytest.raises(UsageError, match="target 'onnx' makes no artefact; use --target cpu, arm6"):
        find_board("pi:9090", find_target("onnx"))
    with pytest.raises(UsageError, match="target 'armv7' makes a library in plain C; use --target"):
        find_board("pi:9090", find_target("armv7"))
