"""The receive side of an open bus: how much it holds, what it lost, how it is read and emptied.

A bus of the kernel is read in batches by its socket, any other one through python-can. Both end
with an error of the bus as OSError or can.CanError.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Final

import can

from plugins.devices.can import frames
from plugins.devices.can.fast_reader import (
    VECTOR,
    WORD,
    FastReader,
    ReadBatch,
    memory_of,
    set_receive_buffer,
)
from plugins.devices.can.load import FrameKinds
from plugins.devices.can.slcan import SlcanBus
from sat_toolkit.core.stream_manager import (
    StreamAction,
    StreamData,
    StreamSource,
    StreamType,
    StreamWrapper,
)

RECEIVE_BUFFER: Final = 4 * 1024 * 1024
POLL_S: Final = 0.1  # how soon a stop is seen
DRAIN_LIMIT_S: Final = 0.5
LINKS: Final = Path("/sys/class/net")
_SLICE_S: Final = 0.01
# A hardware clock that is no time since the epoch counts from its own start.
_EARLIEST_EPOCH: Final = 1_000_000_000.0


@dataclass
class Counters:
    """What came in since the bus was opened.

    `overruns`: error frames that tell of a controller's full buffer. `link_drops`: frames that the
        link dropped.
    """

    received: int = 0
    errors: int = 0
    overruns: int = 0
    link_drops: int = 0
    kinds: FrameKinds = field(default_factory=FrameKinds)


def enlarge_receive_buffer(bus: can.BusABC) -> int | None:
    """Ask for more than the default, which holds about 300 frames; the size in bytes, None where
    there is no socket."""
    with _socket_behind(bus) as sock:
        return None if sock is None else set_receive_buffer(sock, RECEIVE_BUFFER)


def socket_drops(bus: can.BusABC) -> int:
    """Frames that the kernel dropped because this process was slow to read; 0 where it does not
    say."""
    with _socket_behind(bus) as sock:
        return _drops_of(sock)


def drain_bus(bus: can.BusABC) -> None:
    """Discard what was received and not read, for a while at the most."""
    if isinstance(bus, SlcanBus):
        bus.flush()
        return
    deadline = time.monotonic() + DRAIN_LIMIT_S
    while time.monotonic() < deadline and bus.recv(timeout=0.0) is not None:
        pass


@contextmanager
def link_drops(name: str | None, folder: Path = LINKS) -> Iterator[Callable[[], int]]:
    """A function that tells how many frames the link has dropped before any socket saw them, since
    it is there.

    The kernel does so when it cannot keep up itself. 0 where it does not say, as with no link at
    all.
    """
    try:
        file = (
            None
            if name is None
            else os.open(folder / name / "statistics" / "rx_dropped", os.O_RDONLY)
        )
    except OSError:
        file = None
    try:
        yield lambda: 0 if file is None else int(os.pread(file, 32, 0))
    finally:
        if file is not None:
            os.close(file)


class FrameStream:
    """Reads a socket in batches until it is told to stop, and broadcasts them with what was lost
    between.

    `dropped_by_link` tells of losses before the socket. Those may be of frames that a filter hides;
    ten times a second they are told, not at their place.
    """

    def __init__(
        self,
        reader: FastReader,
        stream: StreamWrapper,
        channel: str,
        counters: Counters,
        dropped_by_link: Callable[[], int] = lambda: 0,
    ) -> None:
        self._reader = reader
        self._stream = stream
        self._channel = channel
        self._counters = counters
        self._dropped_by_link = dropped_by_link
        self._link_drops = dropped_by_link()
        self._rate = 0.0  # frames per second, of the last round

    def run(self, running: Event) -> None:
        since = look = time.monotonic()
        while running.is_set():
            if not self._reader.wait(POLL_S):
                self._lost(self._reader.lost_unseen(), "kernel")
                self._look_at_link()
                continue
            self._gather(running)
            before = self._counters.received
            try:
                self._empty(running)
            except OSError:
                # The kernel tells of a link that went down before it hands out what came before.
                with suppress(OSError):
                    self._empty(running)
                raise
            now = time.monotonic()
            self._rate, since = (self._counters.received - before) / (now - since), now
            if now >= look:
                self._look_at_link()
                look = now + POLL_S

    def _gather(self, running: Event) -> None:
        """Let frames gather for the stream's window, but not so long that the buffer could run
        over."""
        left = self._stream.window
        end = time.monotonic() + left
        longest = min(_SLICE_S, self._reader.quarter / self._rate) if self._rate else _SLICE_S
        while left > longest:
            time.sleep(longest)
            if self._reader.is_filling() or not running.is_set():
                return
            left = end - time.monotonic()
        if left > 0:
            time.sleep(left)

    def _empty(self, running: Event) -> None:
        """Broadcast what is there, up to the first call that found less than it could take."""
        while (batch := self._reader.read()) is not None:
            self._broadcast(batch)
            if len(batch.block) < VECTOR or not running.is_set():
                return

    def _broadcast(self, batch: ReadBatch) -> None:
        block, done = batch.block, 0
        self._counters.received += len(block)
        self._counters.kinds.add(block)
        self._counters.errors += batch.errors
        self._counters.overruns += batch.overruns
        for index, lost in batch.losses:
            if index > done:
                self._stream.broadcast_frames(self._channel, block[done:index])
            self._lost(lost, "kernel")
            done = index
        self._stream.broadcast_frames(self._channel, block[done:] if done else block)

    def _look_at_link(self) -> None:
        with suppress(OSError):  # the link is gone, which the next read says
            drops = self._dropped_by_link()
            lost, self._link_drops = drops - self._link_drops, drops
            self._counters.link_drops += lost
            self._lost(lost, "link")

    def _lost(self, n: int, cause: str) -> None:
        if n:
            self._stream.report_lost(self._channel, n, cause)


class MessageStream:
    """Reads a bus through python-can, frame by frame, until it is told to stop.

    Where a socket is behind the bus, frames that the kernel dropped are told ten times a second.
    """

    def __init__(
        self, bus: can.BusABC, stream: StreamWrapper, channel: str, counters: Counters
    ) -> None:
        self._bus = bus
        self._stream = stream
        self._channel = channel
        self._counters = counters
        self._clock_offset: float | None = None

    def run(self, running: Event) -> None:
        with _socket_behind(self._bus) as sock:
            drops, look = _drops_of(sock), time.monotonic() + POLL_S
            while running.is_set():
                message = self._bus.recv(timeout=POLL_S)
                if time.monotonic() >= look:
                    before, drops, look = drops, _drops_of(sock), time.monotonic() + POLL_S
                    if lost := (drops - before) & WORD:
                        self._stream.report_lost(self._channel, lost, "kernel")
                if message is not None:
                    self._deliver(message)

    def _deliver(self, message: can.Message) -> None:
        self._counters.received += 1
        if message.is_error_frame:
            self._counters.errors += 1
            self._counters.overruns += frames.is_overrun(message)
        self._stream.broadcast_data(
            StreamData(
                stream_type=StreamType.CAN,
                channel=self._channel,
                timestamp=self._epoch(message.timestamp),
                source=StreamSource.SERVER,
                action=StreamAction.DATA,
                data=frames.message_to_dict(message),
            )
        )

    def _epoch(self, stamp: float) -> float:
        """The capture time in seconds since the epoch, also from hardware whose clock has another
        zero."""
        if stamp >= _EARLIEST_EPOCH:
            return stamp
        if stamp <= 0:
            return time.time()
        if self._clock_offset is None:
            self._clock_offset = time.time() - stamp
        return stamp + self._clock_offset


def _drops_of(sock: socket.socket | None) -> int:
    with suppress(OSError):  # not every kernel tells
        return 0 if sock is None else memory_of(sock)[2]
    return 0


@contextmanager
def _socket_behind(bus: can.BusABC) -> Iterator[socket.socket | None]:
    """The socket whose datagrams a bus reads, if it reads one; valid within the context."""
    try:
        number = os.dup(bus.fileno())
    except (NotImplementedError, OSError, can.CanError):
        yield None
        return
    try:
        sock = socket.socket(fileno=number)
    except OSError:  # a serial port
        os.close(number)
        yield None
        return
    with sock:
        yield None if sock.type == socket.SOCK_STREAM else sock
