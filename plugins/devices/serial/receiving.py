"""The one reader of an open line, on a thread of its own for as long as the device is connected.

What it reads goes to both who may want it: to the stream, while one runs, and to `expect`, which
looks at what came since the last write or match. Both hold a bounded number of bytes; the oldest
are dropped and counted.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from plugins.devices.serial.line import Line
from sat_toolkit.errors import DriverError

EXPECT_LIMIT: Final = 65_536
STREAM_LIMIT: Final = 1_048_576
_JOIN_S: Final = 3.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one read gave, and when (seconds since the epoch). `dropped` bytes before it were
    lost."""

    timestamp: float
    data: bytes
    dropped: int = 0


@dataclass(frozen=True)
class Found(Generic[T]):
    """What a search found, and how many bytes it has looked past."""

    value: T
    end: int


class Reader:
    """Reads `line` from `start` to `stop`.

    `on_lost` is called on the reader's thread, with the reason, when the line is gone and no stream
    is there to tell it: a stream tells it by what `take` raises.
    """

    def __init__(self, line: Line, name: str, on_lost: Callable[[str], None]) -> None:
        self.received = 0
        self.stream_dropped = 0
        self._line = line
        self._on_lost = on_lost
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._unread = bytearray()
        self._stream: deque[Chunk] | None = None
        self._stream_size = 0
        self._gap = 0
        self._lost: str | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()
        if self._thread is not threading.current_thread():
            self._thread.join(_JOIN_S)

    # --- the stream ----------------------------------------------------------------------------------

    def attach(self) -> None:
        """Keep for `take` what is read from now on. Raises DriverError when the line is gone."""
        with self._changed:
            if self._lost is not None:
                raise DriverError(self._lost)
            self._stream, self._stream_size, self._gap = deque(), 0, 0

    def take(self, timeout: float) -> Chunk | None:
        """The next chunk; None when none came within `timeout` seconds. Raises DriverError when the
        line is gone."""
        with self._changed:
            stream = self._stream
            if stream is None:
                return None
            if not stream and self._lost is None:
                self._changed.wait(timeout)
            if stream:
                chunk = stream.popleft()
                self._stream_size -= len(chunk.data)
                gap, self._gap = self._gap, 0
                return Chunk(chunk.timestamp, chunk.data, gap) if gap else chunk
            if self._lost is not None:
                raise DriverError(self._lost)
            return None

    def detach(self, *, told: bool) -> None:
        """The stream is over; `told` is whether what `take` raised is told by whoever called it."""
        with self._changed:
            was_streaming, self._stream = self._stream is not None, None
            reason = self._lost if was_streaming and not told else None
        if reason is not None and not self._stopping.is_set():
            self._on_lost(reason)

    # --- expect --------------------------------------------------------------------------------------

    def forget(self) -> None:
        """What was received so far is of no interest to `expect`."""
        with self._changed:
            self._unread.clear()

    def expect(self, search: Callable[[bytes], Found[T] | None], timeout: float) -> Found[T] | None:
        """Wait until `search` finds something in what was received, and look past it; None when the
        time is over.

        Raises:
            DriverError: the line is gone.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                found = search(bytes(self._unread))
                if found is not None:
                    del self._unread[: found.end]
                    return found
                if self._lost is not None:
                    raise DriverError(self._lost)
                remaining = deadline - time.monotonic()
                if remaining <= 0 or self._stopping.is_set():
                    return None
                self._changed.wait(remaining)

    def unread(self) -> bytes:
        """What `expect` would look at now."""
        with self._changed:
            return bytes(self._unread)

    # --- the thread ----------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                if data := self._line.read():
                    self._received(Chunk(time.time(), data))
        except DriverError as error:
            self._line_lost(str(error))
        except Exception as error:  # noqa: BLE001 - a reader that dies in silence would look alive for ever
            self._line_lost(f"reading failed: {type(error).__name__}: {error}")

    def _received(self, chunk: Chunk) -> None:
        with self._changed:
            self.received += len(chunk.data)
            self._unread += chunk.data
            del self._unread[: max(0, len(self._unread) - EXPECT_LIMIT)]
            if self._stream is not None:
                self._stream.append(chunk)
                self._stream_size += len(chunk.data)
                while self._stream_size > STREAM_LIMIT:
                    dropped = len(self._stream.popleft().data)
                    self._stream_size -= dropped
                    self._gap += dropped
                    self.stream_dropped += dropped
            self._changed.notify_all()

    def _line_lost(self, reason: str) -> None:
        with self._changed:
            self._lost = reason
            # A running stream tells it once it has handed over what came before.
            mine = self._stream is None
            self._changed.notify_all()
        if mine and not self._stopping.is_set():
            self._on_lost(reason)
