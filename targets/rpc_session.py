"""A session with a machine that runs TVM's RPC server.

Imports TVM: only processes of `worker` import this module.
"""

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tvm import rpc

from crespr_onnx.errors import CompileError
from crespr_onnx.targets.brief import brief
from crespr_onnx.targets.remote import Board

BROKEN = ("Socket", "RPCCode", "kShutdown", "Broken pipe", "reset by peer", "channel")
"""Words of TVM's messages when the other side is gone."""


class _Deadline:
    """Ends the process with an error in its result, unless it is cancelled in time.

    TVM's calls wait for ever, and cannot be interrupted in any other way.
    """

    def __init__(self, folder: Path, seconds: float) -> None:
        self.message = ""
        self._folder = folder
        self._timer = threading.Timer(seconds, self._give_up)
        self._timer.daemon = True

    def __enter__(self) -> "_Deadline":
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def _give_up(self) -> None:
        result = json.dumps({"error": self.message})
        (self._folder / "result.json").write_text(result, encoding="utf-8")
        os._exit(0)


@contextmanager
def open_session(folder: Path, job: dict[str, Any], what: str) -> Iterator[rpc.RPCSession]:
    """A session with the board of a job.

    Args:
        folder: that of the job; if the board does not answer, the error is written there.
        job: with ``board``, ``connect_s`` and ``session_s``.
        what: what is done in the session, for messages: "run the artefact".

    Raises:
        CompileError: there is no session to be had, or what is done in it fails.
    """
    board = Board(**job["board"])
    session = _connect(board, folder, job["connect_s"], job["session_s"])
    try:
        yield session
    except (CompileError, ValueError):
        raise
    except Exception as error:
        raise CompileError(_failure(board, error, what, job["session_s"])) from error


def _connect(board: Board, folder: Path, connect_s: float, session_s: float) -> rpc.RPCSession:
    address = str(Board(board.host, board.port))
    with _Deadline(folder, connect_s) as deadline:
        late = f"within {connect_s:g} s"
        try:
            if not board.key:
                deadline.message = (
                    f"{board} does not answer as TVM's RPC server {late}: it cannot be reached, "
                    "is busy with another session, has crashed, or is something else"
                )
                return rpc.connect(board.host, board.port, session_timeout=session_s)
            deadline.message = f"{address} does not answer as TVM's RPC tracker {late}"
            if reason := _unreachable(board, connect_s):  # TVM would try again for a minute
                raise CompileError(f"cannot connect to the tracker {address}: {reason}")
            tracker = rpc.connect_tracker(board.host, board.port)
            devices = tracker.summary()["server_info"]
            known = sorted({device["key"].partition(":")[2] for device in devices})
            if board.key not in known:
                raise CompileError(
                    f"the tracker {address} knows no device {board.key!r}; "
                    f"known devices: {', '.join(known) or 'none'}"
                )
            deadline.message = (
                f"the tracker {address} gave no session on a device {board.key!r} {late}: all of "
                "them are busy or do not answer"
            )
            return tracker.request(board.key, session_timeout=session_s, max_retry=1)
        except CompileError:
            raise
        except Exception as error:
            raise CompileError(_refusal(board, error, connect_s)) from error


def _refusal(board: Board, error: Exception, connect_s: float) -> str:
    """Why there is no session."""
    text = str(error)
    if "protocol" in text and "mismatch" in text:
        return (
            f"{board} runs another version of TVM: {brief(error)}; install apache-tvm "
            f"{version('apache-tvm')} there"
        )
    if not board.key and (reason := _unreachable(board, connect_s)):
        return (
            f"cannot connect to {board}: {reason}\nIs TVM's RPC server running there? "
            f"python -m tvm.exec.rpc_server --host 0.0.0.0 --port {board.port}"
        )
    if "match" in text and "key" in text:
        return (
            f"the server at {board} asks for a key; give its tracker as --rpc HOST:PORT/KEY, or "
            "start it without --key"
        )
    return f"{board} is no RPC server of TVM {version('apache-tvm')}: {brief(error)}"


def _unreachable(board: Board, seconds: float) -> str | None:
    """What the operating system says against connecting, or None."""
    try:
        socket.create_connection((board.host, board.port), timeout=seconds).close()
    except OSError as error:
        return error.strerror or str(error)
    return None


def _failure(board: Board, error: Exception, what: str, session_s: float) -> str:
    """Why the work in a session failed."""
    text = str(error)
    if "RPCSessionTimeoutError" in text:
        return f"the session on {board} that was to {what} took more than {session_s:g} s"
    if any(word in text for word in BROKEN):
        return (
            f"the connection to {board} broke while it was to {what}: the network failed, or the "
            "model crashed there; was it compiled for that processor?"
        )
    # "No such file" is what the loader says of a library for another processor.
    if "shared library" in text and ("cannot open shared object" in text or "ELF" in text):
        return (
            f"{board} cannot load the artefact: it was compiled for another kind of machine; give "
            "the --target that this one is"
        )
    return (
        f"{board} cannot {what}: {brief(error)}\n"
        f"It needs the same TVM as here, {version('apache-tvm')}."
    )
