"""Fake hardware at the wire: what a driver opens, writes to and reads from, without the hardware.

A `FakeDevice` speaks lines of text, on a TCP port (`TcpInstrument`) or a serial port (`PtyLine`); a
`TcpBus` passes each client's lines to all others. So the driver under test is the real one,
timeouts, partial reads and lost connections included. Each serves on one thread and is used in a
``with`` statement.
"""

from __future__ import annotations

import os
import selectors
import socket
import threading
import time
import tty
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

MAX_PENDING = 1_000_000
KEPT_LINES = 10_000
TIMEOUT = 5.0

Answer = str | Callable[[str], str | None]
Answers = Mapping[str, Answer] | Callable[[str], str | None]


@dataclass(eq=False)
class _Peer:
    """One connection: what came of the next line, and what waits to be written."""

    fd: int
    close: Callable[[], None]
    inbox: bytearray = field(default_factory=bytearray)
    outbox: bytearray = field(default_factory=bytearray)


class FakeDevice:
    """Answers lines. Derived classes say what it is connected to.

    Args:
        answers: a function from a line to its answer (None: none), or a mapping. A mapping is asked
            for the whole line, then for its first word; a function in it gets the rest of the line.
        terminator: what ends a line, both ways.
        name: names the thread, ``sim/<name>``.

    `received` is the last lines that came, without terminators.
    """

    def __init__(self, answers: Answers, *, terminator: str = "\n", name: str = "device") -> None:
        self.received: deque[str] = deque(maxlen=KEPT_LINES)
        self._answers = answers
        self._end = terminator.encode()
        self._peers: dict[int, _Peer] = {}
        self._sayings: deque[bytes] = deque(maxlen=KEPT_LINES)
        self._timers: list[tuple[float, Callable[[], str | None]]] = []
        self._changed = threading.Condition()
        self._selector: selectors.BaseSelector
        self._waker: socket.socket
        self._wake_up: socket.socket
        self._stopping = False
        self._thread = threading.Thread(target=self._serve, name=f"sim/{name}", daemon=True)

    def answer(self, line: str) -> str | None:
        """The answer to one line; override it for a device with a state of its own."""
        if callable(self._answers):
            return self._answers(line)
        word, _, rest = line.partition(" ")
        found = self._answers.get(line, self._answers.get(word))
        return found(rest) if callable(found) else found

    def every(self, period: float, line: Callable[[], str | None]) -> None:
        """Say what `line` gives (None: nothing), every `period` seconds. Call it before the
        start."""
        self._timers.append((period, line))

    def say(self, line: str) -> None:
        """Send a line to whoever is connected, from any thread."""
        self._sayings.append(line.encode() + self._end)
        self._wake()

    def wait_received(self, line: str, timeout: float = TIMEOUT) -> None:
        """Return once `line` has come.

        Raises:
            TimeoutError: it has not.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: line in self.received, timeout):
                raise TimeoutError(
                    f"{line!r} did not come within {timeout:g} s, only {list(self.received)[-5:]}"
                )

    def start(self) -> Self:
        """Plug it in. Once only: make another one to plug it in again.

        Raises:
            OSError: its port cannot be had.
        """
        self._selector = selectors.DefaultSelector()
        self._waker, self._wake_up = socket.socketpair()
        self._wake_up.setblocking(False)
        self._selector.register(self._waker, selectors.EVENT_READ, self._woken)
        try:
            self._open()
        except BaseException:
            self.stop()
            raise
        self._thread.start()
        return self

    def stop(self) -> None:
        """Unplug it: connections break, and nobody answers any more."""
        if self._thread.is_alive():
            self._stopping = True
            self._wake()
            self._thread.join(TIMEOUT)
        for peer in list(self._peers.values()):
            self._drop(peer)
        self._close()
        self._selector.close()
        self._waker.close()
        self._wake_up.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    # --- for derived classes -----------------------------------------------------------------------

    def _open(self) -> None:
        """Make it reachable."""

    def _close(self) -> None:
        """Undo `_open`. Peers are closed already."""

    def _heard(self, peer: _Peer, line: str) -> None:
        reply = self.answer(line)
        self._keep(line)
        if reply is not None:
            self._write(peer, reply.encode() + self._end)

    def _keep(self, line: str) -> None:
        """Whoever sees what a line has caused, its answer included, finds it in `received`."""
        with self._changed:
            self.received.append(line)
            self._changed.notify_all()

    def _join(self, fd: int, close: Callable[[], None]) -> None:
        """Serve a connection from now on."""
        peer = _Peer(fd, close)
        self._peers[fd] = peer
        self._selector.register(fd, selectors.EVENT_READ, lambda: self._ready(peer))

    def _write(self, peer: _Peer, data: bytes) -> None:
        if (
            len(peer.outbox) + len(data) <= MAX_PENDING
        ):  # a client that never reads cannot make this grow
            peer.outbox += data
            self._flush(peer)

    # --- the thread --------------------------------------------------------------------------------

    def _serve(self) -> None:
        due = [time.monotonic() + period for period, _ in self._timers]
        while not self._stopping:
            wait = max(0.0, min(due) - time.monotonic()) if due else None
            for key, _ in self._selector.select(wait):
                key.data()
            for index, (period, line) in enumerate(self._timers):
                if time.monotonic() >= due[index]:
                    due[index] = time.monotonic() + period
                    said = line()
                    if said is not None:
                        self._sayings.append(said.encode() + self._end)
            while self._sayings:
                data = self._sayings.popleft()
                for peer in list(self._peers.values()):
                    self._write(peer, data)

    def _wake(self) -> None:
        with suppress(BlockingIOError):  # it has been woken already
            self._wake_up.send(b"!")

    def _woken(self) -> None:
        self._waker.recv(4096)

    def _ready(self, peer: _Peer) -> None:
        if peer.outbox:
            self._flush(peer)
        try:
            data = os.read(peer.fd, 65_536) if peer.fd in self._peers else b""
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(peer)
            return
        peer.inbox += data
        while self._end in peer.inbox:
            raw, _, rest = bytes(peer.inbox).partition(self._end)
            peer.inbox[:] = rest
            self._heard(peer, raw.decode(errors="replace"))

    def _flush(self, peer: _Peer) -> None:
        try:
            del peer.outbox[: os.write(peer.fd, peer.outbox)]
        except BlockingIOError:
            pass
        except OSError:
            self._drop(peer)
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if peer.outbox else 0)
        if peer.fd in self._peers:
            self._selector.modify(peer.fd, events, lambda: self._ready(peer))

    def _drop(self, peer: _Peer) -> None:
        if self._peers.pop(peer.fd, None) is not None:
            self._selector.unregister(peer.fd)
            peer.close()


class TcpInstrument(FakeDevice):
    """An instrument on a TCP port, as laboratory instruments have them (port 5025 and the like).

    Args:
        port: 0 takes a free one.
        (the others: see `FakeDevice`)

    `address` is ``127.0.0.1:PORT`` once it has started.
    """

    def __init__(
        self,
        answers: Answers,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        terminator: str = "\n",
        name: str = "tcp",
    ) -> None:
        super().__init__(answers, terminator=terminator, name=name)
        self.host, self.port = host, port
        self._listener: socket.socket | None = None

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def _open(self) -> None:
        self._listener = socket.create_server((self.host, self.port))
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def _accept(self) -> None:
        assert self._listener is not None
        with suppress(BlockingIOError):
            client, _ = self._listener.accept()
            client.setblocking(False)
            self._join(client.fileno(), client.close)

    def _close(self) -> None:
        if self._listener is not None:
            self._listener.close()


class TcpBus(TcpInstrument):
    """A bus on a TCP port: a line that one client sends, all others hear. It answers nothing
    itself."""

    def __init__(
        self, *, port: int = 0, host: str = "127.0.0.1", terminator: str = "\n", name: str = "bus"
    ) -> None:
        super().__init__({}, port=port, host=host, terminator=terminator, name=name)

    def _heard(self, peer: _Peer, line: str) -> None:
        self._keep(line)
        for other in list(self._peers.values()):
            if other is not peer:
                self._write(other, line.encode() + self._end)


class PtyLine(FakeDevice):
    """A device on a serial port: a pty, which a program opens like any other port.

    Args:
        link: a path for the port that stays the same; the pty itself has another one each time.
        (the others: see `FakeDevice`)

    `port` is the path to open, once it has started.
    """

    def __init__(
        self,
        answers: Answers,
        *,
        link: Path | None = None,
        terminator: str = "\n",
        name: str = "pty",
    ) -> None:
        super().__init__(answers, terminator=terminator, name=name)
        self.port = ""
        self._link = link
        self._slave = -1

    def _open(self) -> None:
        if self._link is not None and self._link.exists() and not self._link.is_symlink():
            raise FileExistsError(f"{self._link} exists and is no symbolic link: name another path")
        master, self._slave = os.openpty()
        tty.setraw(self._slave)  # no echo, no translation of line ends
        os.set_blocking(master, False)
        self.port = os.ttyname(self._slave)
        if self._link is not None:
            self._link.unlink(missing_ok=True)
            self._link.symlink_to(self.port)
            self.port = str(self._link)
        self._join(master, lambda: os.close(master))

    def _close(self) -> None:
        if self._slave >= 0:
            if self._link is not None:
                self._link.unlink(missing_ok=True)
            os.close(self._slave)
            self._slave = -1
