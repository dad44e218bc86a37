"""Runs commands in the guest for the harness outside: one connection, one command
(tests/vm/wire.py).

A command ends with its connection, at its time limit, or by itself; its process group ends with it.
The agent itself ends when the connection that holds the machine does, so that no virtual machine
outlives its harness. Only the standard library: it runs on the guest's own Python.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import secrets
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any

import wire  # type: ignore[import-not-found,unused-ignore]  # beside this file in the guest

HELD_WITHIN_S = 60.0
CHUNK = 65536


class Command:
    """One command and the connection it was asked on."""

    def __init__(self, connection: socket.socket, request: dict[str, Any]) -> None:
        self._connection = connection
        self._deadline = time.monotonic() + float(request["timeout"])
        self._process = subprocess.Popen(
            request["argv"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | request.get("env", {}),
            cwd=request.get("cwd") or "/tmp",
            start_new_session=True,
        )

    def serve(self) -> None:
        """Carry bytes both ways until the command ended, its time is over, or nobody listens any
        more."""
        process = self._process
        assert process.stdout is not None
        assert process.stderr is not None
        ended = os.pidfd_open(process.pid)
        try:
            with selectors.DefaultSelector() as selector, contextlib.suppress(ConnectionError):
                selector.register(self._connection, selectors.EVENT_READ)
                selector.register(process.stdout, selectors.EVENT_READ, wire.STDOUT)
                selector.register(process.stderr, selectors.EVENT_READ, wire.STDERR)
                selector.register(ended, selectors.EVENT_READ, wire.EXIT)
                in_time = self._carry(selector)
                self._end()
                wire.send_json(
                    self._connection, wire.EXIT, {"status": process.returncode if in_time else None}
                )
        finally:
            self._end()
            os.close(ended)
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()

    def _carry(self, selector: selectors.BaseSelector) -> bool:
        """Whether the command ended by itself."""
        while (left := self._deadline - time.monotonic()) > 0:
            ready = selector.select(left)
            for key, _ in ready:
                if key.data is None:
                    self._take_in()
                elif key.data != wire.EXIT and not self._pass_on(key.fd, key.data):
                    selector.unregister(key.fileobj)
            # What a command printed before its end comes first.
            if [key.data for key, _ in ready] == [wire.EXIT]:
                return True
        return False

    def _pass_on(self, stream: int, kind: int) -> bool:
        data = os.read(stream, CHUNK)
        if data:
            wire.send(self._connection, kind, data)
        return bool(data)

    def _take_in(self) -> None:
        frame = wire.receive(self._connection)
        if frame is None:
            raise ConnectionAbortedError
        kind, body = frame
        stdin = self._process.stdin
        assert stdin is not None
        with contextlib.suppress(BrokenPipeError, ProcessLookupError, ValueError):
            if kind == wire.STDIN:
                stdin.write(body)
                stdin.flush()
            elif kind == wire.STDIN_END:
                stdin.close()
            elif kind == wire.SIGNAL:
                os.killpg(self._process.pid, int(body))

    def _end(self) -> None:
        if self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _serve(
    connection: socket.socket, token: str, held: threading.Event, released: threading.Event
) -> None:
    with connection, contextlib.suppress(ConnectionError):
        frame = wire.receive(connection)
        if frame is None or frame[0] != wire.REQUEST:
            return
        request = json.loads(frame[1])
        if not hmac.compare_digest(str(request.get("token", "")), token):
            return
        connection.settimeout(None)
        if request.get("hold"):
            held.set()
            with contextlib.suppress(ConnectionError):
                wire.send(connection, wire.EXIT)
                wire.receive(connection)
            released.set()
            return
        try:
            command = Command(connection, request)
        except OSError as error:
            wire.send(connection, wire.STDERR, f"{request['argv'][0]}: {error.strerror}\n".encode())
            wire.send_json(connection, wire.EXIT, {"status": 127})
            return
        command.serve()


def _accept(
    server: socket.socket, token: str, held: threading.Event, released: threading.Event
) -> None:
    while True:
        connection, _ = server.accept()
        connection.settimeout(HELD_WITHIN_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        name = f"agent/{connection.getpeername()[1]}"
        threading.Thread(
            target=_serve, args=(connection, token, held, released), name=name, daemon=True
        ).start()


def main() -> None:
    """Serve until the machine is released."""
    token = secrets.token_hex(16)
    held, released = threading.Event(), threading.Event()
    with socket.create_server(("", wire.AGENT_PORT), backlog=64) as server:
        accepting = threading.Thread(
            target=_accept, args=(server, token, held, released), name="agent/accept", daemon=True
        )
        accepting.start()
        sys.stdout.write(f"{wire.READY} {token}\n")
        sys.stdout.flush()
        if held.wait(HELD_WITHIN_S):
            released.wait()


if __name__ == "__main__":
    main()
