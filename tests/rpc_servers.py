"""Machines to measure on, all of them on the loopback interface: good ones and bad ones."""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from crespr_onnx.targets.remote import Board

HOST = "127.0.0.1"
PATIENCE_S = 60.0


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextmanager
def rpc_server(folder: Path, *options: str) -> Iterator[Board]:
    """TVM's own RPC server in processes of its own, which are gone afterwards."""
    with _listening("tvm.exec.rpc_server", folder / "server.log", *options) as board:
        yield board


@contextmanager
def rpc_tracker(folder: Path, key: str) -> Iterator[Board]:
    """TVM's own tracker, which needs tornado, with one server that it knows by a key."""
    with _listening("tvm.exec.rpc_tracker", folder / "tracker.log") as tracker:
        options = ("--tracker", str(tracker), "--key", key)
        with rpc_server(folder, *options):
            yield Board(tracker.host, tracker.port, key)


@contextmanager
def small_tracker(device: Board, key: str) -> Iterator[Board]:
    """What a client needs of TVM's tracker, for tests without tornado.

    Args:
        device: the server, which was started with the key but knows no tracker.
        key: what the tracker calls it.
    """
    magic, summary, success = 0x2F271, 6, 0

    def answer(client: socket.socket) -> None:
        client.sendall(client.recv(4, socket.MSG_WAITALL))
        while head := client.recv(4, socket.MSG_WAITALL):
            (size,) = struct.unpack("<i", head)
            code, *_ = json.loads(client.recv(size, socket.MSG_WAITALL))
            found: object = [device.host, device.port, key]
            if code == summary:
                found = {"server_info": [{"key": f"server:{key}", "addr": [device.host, 0]}]}
            text = json.dumps([success, found]).encode()
            client.sendall(struct.pack("<i", len(text)) + text)

    def serve(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                with client:
                    if client.recv(4, socket.MSG_PEEK) == struct.pack("<i", magic):
                        answer(client)

    with socket.create_server((HOST, 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        yield Board(HOST, listener.getsockname()[1], key)
        listener.shutdown(socket.SHUT_RDWR)


@contextmanager
def _listening(module: str, log: Path, *options: str) -> Iterator[Board]:
    port = free_port()
    ports = ("--port", str(port), "--port-end", str(port + 1))
    command = [sys.executable, "-m", module, "--host", HOST, *ports, *options]
    environment = {**os.environ, "TVM_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    with log.open("w") as file:
        # A session of its own, so that its children can be ended with it.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment,
            start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + PATIENCE_S
        while "bind to" not in log.read_text():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{module} did not start:\n{log.read_text()}")
            time.sleep(0.05)
        yield Board(HOST, port)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def silent_server() -> Iterator[Board]:
    """A socket that takes connections and never says anything."""
    with socket.create_server((HOST, 0)) as listener:
        yield Board(HOST, listener.getsockname()[1])


@contextmanager
def in_between(board: Board, alter: Callable[[bytes, int], bytes | None]) -> Iterator[Board]:
    """Something on the way to a board that alters what is sent there.

    Args:
        board: where to pass things on to.
        alter: called with what comes and how many bytes came before; None cuts the connection.
    """
    with socket.create_server((HOST, 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    server = socket.create_connection((board.host, board.port))
                    back = threading.Thread(target=pump, args=(server, client, lambda d, _: d))
                    back.start()
                    pump(client, server, alter)

        def pump(
            source: socket.socket,
            target: socket.socket,
            change: Callable[[bytes, int], bytes | None],
        ) -> None:
            seen = 0
            with suppress(OSError):
                while data := source.recv(65536):
                    changed = change(data, seen)
                    seen += len(data)
                    if changed is None:
                        break
                    target.sendall(changed)
            for end in (source, target):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield Board(HOST, listener.getsockname()[1])
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
    thread.join(timeout=10)
