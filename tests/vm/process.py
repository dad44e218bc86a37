"""A command that runs in the guest, seen from here: its output as it comes, and its end
(tests/vm/wire.py)."""

from __future__ import annotations

import json
import re
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from tests.vm import wire

TIMEOUT_S = 30.0


class VMError(Exception):
    """The machine did not do what it was made for; the text is for people."""


@dataclass(frozen=True)
class Done:
    """How a command ended; `status` is None when its time was over."""

    status: int | None
    stdout: str
    stderr: str


class Process:
    """A command running in the guest. Leaving it as a context manager ends it."""

    def __init__(self, connection: socket.socket, what: str) -> None:
        self._connection = connection
        self._what = what
        self.stdout = self.stderr = b""
        self.ended = False
        self.status: int | None = None

    def wait(self, timeout: float = TIMEOUT_S) -> Done:
        """Wait for its end."""
        self._read_until(lambda: self.ended, timeout, "its end")
        return Done(
            self.status, self.stdout.decode(errors="replace"), self.stderr.decode(errors="replace")
        )

    def wait_output(self, pattern: str, timeout: float = TIMEOUT_S) -> re.Match[str]:
        """Wait until its standard output or error has `pattern`, from the beginning of what it ever
        wrote."""
        expression = re.compile(pattern, re.MULTILINE)
        found: list[re.Match[str] | None] = [None]

        def seen() -> bool:
            texts = (self.stdout.decode(errors="replace"), self.stderr.decode(errors="replace"))
            found[0] = next((match for text in texts if (match := expression.search(text))), None)
            return found[0] is not None

        self._read_until(seen, timeout, f"output that matches {pattern!r}")
        assert found[0] is not None
        return found[0]

    def lines(self) -> list[str]:
        """The whole lines of standard output read so far."""
        return self.stdout.decode(errors="replace").split("\n")[:-1]

    def write(self, data: bytes) -> None:
        wire.send(self._connection, wire.STDIN, data)

    def end_input(self) -> None:
        wire.send(self._connection, wire.STDIN_END)

    def signal(self, number: signal.Signals) -> None:
        """To its whole process group."""
        wire.send(self._connection, wire.SIGNAL, str(number.value).encode())

    def stop(self, timeout: float = TIMEOUT_S) -> Done:
        """SIGTERM, and wait for the end."""
        if not self.ended:
            self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def close(self) -> None:
        """End the command if it still runs (SIGKILL)."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, timeout: float) -> bool:
        """Take in one piece of output; False when none came within `timeout` seconds or the command
        has ended."""
        if self.ended:
            return False
        self._connection.settimeout(max(timeout, 0.001))
        try:
            frame = wire.receive(self._connection)
        except TimeoutError:
            return False
        if frame is None:
            raise VMError(f"the virtual machine is gone while it ran {self._what}")
        kind, body = frame
        if kind == wire.STDOUT:
            self.stdout += body
        elif kind == wire.STDERR:
            self.stderr += body
        elif kind == wire.EXIT:
            self.ended, self.status = True, json.loads(body)["status"]
        return True

    def _read_until(self, condition: Callable[[], bool], timeout: float, what: str) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            left = deadline - time.monotonic()
            if left <= 0 or self.ended:
                text = (self.stdout + self.stderr).decode(errors="replace")[-2000:]
                why = f"it ended with {self.status}" if self.ended else f"waited {timeout:g} s"
                raise VMError(f"{self._what}: {what} did not come, {why}. It wrote:\n{text}")
            self.read(left)
