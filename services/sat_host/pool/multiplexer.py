"""One thread that reads every worker's socket and output pipe, and finishes writes that did not
fit.

Users of channels are called on that thread and must be quick. A worker that does not read costs its
own bounded buffer.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import socket
import threading
import time
from collections import deque
from typing import Protocol

_log = logging.getLogger(__name__)

# A buffer of more than 128 KiB is mapped anew for each read, which takes longer than all else.
READ_BYTES = 65_536
MAX_PENDING = 4 * 1_048_576


class Pace:
    """How much may be read when: `bytes_per_s` on average, a second's worth at once."""

    def __init__(self, bytes_per_s: float) -> None:
        self._rate = bytes_per_s
        self._credit = bytes_per_s
        self._at = time.monotonic()

    def spend(self, count: int) -> float:
        """Take `count` bytes; returns the seconds to wait before the next are read, 0.0 mostly."""
        now = time.monotonic()
        self._credit = min(self._rate, self._credit + (now - self._at) * self._rate) - count
        self._at = now
        return max(0.0, -self._credit / self._rate)


class ChannelUser(Protocol):
    """Who is told, on the multiplexer's thread, of what a channel brings."""

    def on_bytes(self, data: bytes) -> None: ...

    def on_closed(self, problem: str) -> None:
        """The far end has closed it; or `on_bytes` raised, as `problem` says."""


class Channel:
    """A non-blocking file descriptor being served: bytes in go to its user, bytes out by `send`.

    `problem` is why it is closed, when that was done on this side.
    """

    def __init__(
        self, multiplexer: Multiplexer, fd: int, user: ChannelUser, bytes_per_s: float
    ) -> None:
        os.set_blocking(fd, False)
        self.fd = fd
        self.user = user
        self.closed = False
        self.problem = ""
        self.pace = Pace(bytes_per_s)
        self._multiplexer = multiplexer
        self._pending = bytearray()
        self._lock = threading.Lock()

    def send(self, data: bytes) -> bool:
        """Write now what fits, the rest later. False: closed, or more than MAX_PENDING bytes would
        wait."""
        with self._lock:
            if self.closed or len(self._pending) + len(data) > MAX_PENDING:
                return False
            waiting = bool(self._pending)
            self._pending += data
            if waiting:
                return True
            self._write()
            waiting = bool(self._pending)
        if waiting:
            self._multiplexer.wake()
        return True

    def flush(self) -> bool:
        """Write what waits and fits; whether something still waits."""
        with self._lock:
            if not self.closed:
                self._write()
            return bool(self._pending) and not self.closed

    @property
    def waiting(self) -> bool:
        return bool(self._pending)

    def shut(self) -> bool:
        """Close the descriptor once; whether this call did it."""
        with self._lock:
            if self.closed:
                return False
            self.closed = True
            self._pending.clear()
            os.close(self.fd)
            return True

    def _write(self) -> None:
        try:
            sent = os.write(self.fd, self._pending)
        except BlockingIOError:
            return
        except OSError:  # the reader sees the end of file and says so
            self._pending.clear()
            return
        del self._pending[:sent]


class Multiplexer:
    """Serves channels on a thread of its own."""

    def __init__(self, name: str) -> None:
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self._selector.register(self._wake_read, selectors.EVENT_READ, None)
        # Channels that are to be served from now on, or no more.
        self._joining: deque[tuple[Channel, bool]] = deque()
        self._paused: dict[Channel, float] = {}
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=f"{name}/io", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def add(self, fd: int, user: ChannelUser, *, bytes_per_s: float) -> Channel:
        """Serve `fd`, which the channel owns from now on. Who writes more than `bytes_per_s` has to
        wait."""
        channel = Channel(self, fd, user, bytes_per_s)
        self._joining.append((channel, True))
        self.wake()
        return channel

    def remove(self, channel: Channel) -> None:
        """Serve `channel` no more; its user is not told."""
        self._joining.append((channel, False))
        self.wake()

    def wake(self) -> None:
        """Look again at which channels wait to write."""
        with contextlib.suppress(BlockingIOError, OSError):
            self._wake_write.send(b"x")

    def stop(self, timeout: float = 2.0) -> None:
        """End the thread and close every channel."""
        self._stopping = True
        self.wake()
        if self._thread.is_alive():
            self._thread.join(timeout)
        for key in list(self._selector.get_map().values()):
            if isinstance(key.data, Channel):
                key.data.shut()
        for channel in self._paused:
            channel.shut()
        self._selector.close()
        self._wake_read.close()
        self._wake_write.close()

    def _register(self, channel: Channel) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if channel.waiting else 0)
        self._selector.register(channel.fd, events, channel)

    def _drop(self, channel: Channel) -> None:
        if not channel.closed and self._paused.pop(channel, None) is None:
            self._selector.unregister(channel.fd)
        channel.shut()

    def _run(self) -> None:
        while not self._stopping:
            for key, events in self._selector.select(self._resume()):
                if key.data is None:
                    self._woken()
                else:
                    self._serve(key.data, events)

    def _resume(self) -> float | None:
        """Read again those whose pause is over; seconds until the next is, None when none
        pauses."""
        now = time.monotonic()
        for channel in [c for c, until in self._paused.items() if until <= now]:
            del self._paused[channel]
            if not channel.closed:
                self._register(channel)
        return min(self._paused.values()) - now if self._paused else None

    def _pause(self, channel: Channel, seconds: float) -> None:
        self._selector.unregister(channel.fd)
        self._paused[channel] = time.monotonic() + seconds

    def _woken(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_read.recv(4096)
        while self._joining:
            channel, joins = self._joining.popleft()
            if joins:
                self._register(channel)
            else:
                self._drop(channel)
        for key in list(self._selector.get_map().values()):
            if isinstance(key.data, Channel) and key.data.waiting:
                self._selector.modify(
                    key.fd, selectors.EVENT_READ | selectors.EVENT_WRITE, key.data
                )

    def _serve(self, channel: Channel, events: int) -> None:
        if channel.closed or channel in self._paused:  # since this turn's look at the descriptors
            return
        if events & selectors.EVENT_WRITE and not channel.flush():
            self._selector.modify(channel.fd, selectors.EVENT_READ, channel)
        if not events & selectors.EVENT_READ:
            return
        try:
            data = os.read(channel.fd, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        try:
            if data:
                channel.user.on_bytes(data)
                if (wait := channel.pace.spend(len(data))) > 0.0:
                    self._pause(channel, wait)
                return
        except Exception as error:  # noqa: BLE001 - whatever a worker sends, the others are served on
            channel.problem = str(error) or type(error).__name__
            _log.warning("a worker's channel is closed: %s", channel.problem)
        self._selector.unregister(channel.fd)
        if channel.shut():
            channel.user.on_closed(channel.problem)
