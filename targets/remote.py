"""Running and timing compiled models on another machine, through TVM's own RPC.

All of it happens in processes of their own (`process`), so that a board that does not answer, or
dies on the way, is an error after a bounded time.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from crespr_onnx.errors import UsageError
from crespr_onnx.targets.process import Arrays, call_worker
from crespr_onnx.targets.target import Target

CONNECT_S = 10.0
"""How long a board may take to answer."""
START_S = 60.0
"""How long the process here may take to start and to end."""
FORM = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):(?P<port>[0-9]{1,5})(/(?P<key>\S+))?")


@dataclass(frozen=True)
class Board:
    """A machine that runs TVM's RPC server.

    Attributes:
        host: name or address of the server, or of the tracker.
        port: its port.
        key: what the tracker calls the machine, or "" where the server is addressed directly.
    """

    host: str
    port: int
    key: str = ""

    def __str__(self) -> str:
        """As it is given on the command line."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" + (f"/{self.key}" if self.key else "")


def parse_board(text: str) -> Board:
    """The board that a value of ``--rpc`` names.

    Raises:
        UsageError: it is not of the form HOST:PORT or HOST:PORT/KEY.
    """
    found = FORM.fullmatch(text)
    port = int(found["port"]) if found else 0
    if found is None or not 1 <= port <= 65535:
        raise UsageError(
            f"--rpc is {text!r}; it must be HOST:PORT of a TVM RPC server, or HOST:PORT/KEY of a "
            "tracker and a device that it knows, such as 192.168.1.7:9090"
        )
    return Board(found["host"].strip("[]"), port, found["key"] or "")


def find_board(rpc: str | None, target: Target) -> Board | None:
    """The board to measure on, or None if it is this machine.

    Raises:
        UsageError: the value is malformed, or nothing that TVM's RPC can run comes out for the
            target.
    """
    if rpc is None:
        return None
    board = parse_board(rpc)
    if not target.compiles or target.library != "model.so":
        what = "a library in plain C" if target.compiles else "no artefact"
        raise UsageError(
            f"--rpc runs what TVM's runtime can load, and target {target.name!r} makes {what}; use "
            "--target cpu, arm64 or cuda"
        )
    return board


def greet(board: Board, connect_s: float = CONNECT_S) -> None:
    """Open a session on a board and close it again.

    Raises:
        CompileError: the board does not answer, or not as a server of this version of TVM.
    """
    _call({"job": "rpc_greet"}, board, connect_s, connect_s, None)


def run_remote(
    board: Board,
    folder: Path,
    inputs: Arrays,
    timeout: float = 120.0,
    connect_s: float = CONNECT_S,
) -> dict[str, NDArray[Any]]:
    """Outputs of a compiled model by name, computed on a board.

    Args:
        board: where to run it.
        folder: the artefact, here.
        inputs: arrays by name.
        timeout: seconds after which the session is given up, on the board as well.
        connect_s: seconds after which a board that does not answer is given up.

    Raises:
        CompileError: the inputs are not the model's, the board does not answer, or the artefact
            does not run there.
    """
    job = {"job": "rpc_run", "folder": str(folder.resolve())}
    return _call(job, board, timeout, connect_s, inputs)[1]


def time_remote(
    board: Board,
    folders: Mapping[str, Path],
    inputs: Arrays,
    threads: int = 1,
    rounds: int = 21,
    round_seconds: float = 0.02,
    timeout: float = 600.0,
    connect_s: float = CONNECT_S,
) -> dict[str, list[float]]:
    """Times of compiled models that take turns on a board, measured by the board's own clock.

    Args:
        board: where to time them.
        folders: artefacts by the name to report them under.
        inputs: one batch, of the shapes that all of them were compiled for.
        threads: threads of TVM's pool there.
        rounds: how many times each takes its turn.
        round_seconds: roughly how long one turn lasts.
        timeout: seconds after which the session is given up, on the board as well.
        connect_s: seconds after which a board that does not answer is given up.

    Returns:
        Mean milliseconds per run in each turn, by name.

    Raises:
        CompileError: as `run_remote` does.
    """
    job = {
        "job": "rpc_time",
        "folders": {name: str(folder.resolve()) for name, folder in folders.items()},
        "threads": threads,
        "rounds": rounds,
        "round_seconds": round_seconds,
    }
    result, _ = _call(job, board, timeout, connect_s, inputs)
    return {name: [float(v) for v in values] for name, values in result["milliseconds"].items()}


def _call(
    job: dict[str, Any], board: Board, timeout: float, connect_s: float, inputs: Arrays | None
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    whole = {**job, "board": asdict(board), "connect_s": connect_s, "session_s": timeout}
    return call_worker(whole, 1, connect_s + timeout + START_S, inputs)
