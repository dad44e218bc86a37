"""A worker as its host sees it: called with deadlines, watched for signs of life, ended, its end
explained.

What it runs in is the business of `process` and `thread`. Everything here runs on the host's work
loop, except the handing on of frames, which goes straight from the multiplexer's thread to
`on_frames`. Nothing a worker does or sends can block the loop.
"""

from __future__ import annotations

import abc
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from sat_bus.service.loop import Timer, WorkLoop
from sat_host import wire
from sat_host.containment.limits import WorkerLimits
from sat_host.pool.multiplexer import Channel, Multiplexer
from sat_toolkit.core.frame_block import FrameBlock
from sat_toolkit.errors import Busy, Indeterminate, SatError, Timeout, from_code

PING_PERIOD = 1.0
EXIT_GRACE = 2.0
SOCKET_BYTES_PER_S = 8 * 1_048_576
EVENTS_PER_SECOND = 1_000


@dataclass(frozen=True)
class CallResult:
    """The outcome of a call. `error` None: it succeeded with `result`.

    `fatal`: the device is in ERROR now. `gone`: so is the worker.
    """

    result: Any = None
    error: SatError | None = None
    fatal: bool = False
    gone: bool = False


@dataclass
class _Pending:
    done: Callable[[CallResult], None]
    timer: Timer


class WorkerOwner(Protocol):
    """Who is told of a worker's doings. On the loop, but `on_frames`: on the multiplexer's
    thread."""

    def on_frames(self, header: dict[str, Any], frames: bytes) -> None: ...

    def on_event(self, event: dict[str, Any]) -> None: ...

    def on_exit(self, reason: str) -> None: ...


class WorkerHandle(abc.ABC):
    """A worker. `name` names it in logs; `config` is the first message it gets; `end` is the host's
    of its socket."""

    def __init__(
        self,
        name: str,
        config: dict[str, Any],
        loop: WorkLoop,
        multiplexer: Multiplexer,
        owner: WorkerOwner,
        end: socket.socket,
    ) -> None:
        self.name = name
        self._limits: WorkerLimits = config["limits"]
        self._loop = loop
        self._multiplexer = multiplexer
        self._owner = owner
        self._calls: dict[int, _Pending] = {}
        self._next_call = 0
        self._exited = False
        self._forgotten = False
        self._heard: float | None = None
        self._event_second = 0
        self._events = 0
        self._decoder = wire.Decoder()
        self._channel: Channel = multiplexer.add(
            end.detach(), self._on_bytes, self._on_closed, bytes_per_s=SOCKET_BYTES_PER_S
        )
        self._channel.send(wire.pack({"config": {**config, "limits": asdict(self._limits)}}))
        self._watchdog = loop.every(PING_PERIOD, self._watch)

    @property
    def alive(self) -> bool:
        return not self._exited

    def call(
        self, message: dict[str, Any], timeout: float, done: Callable[[CallResult], None]
    ) -> None:
        """Ask the worker; `done` is called once, on the loop. A call that outlives `timeout`
        seconds fails with `Timeout`, fatal; one whose worker dies fails with `Indeterminate`,
        fatal."""
        what = message.get("command") or message["do"]
        self._call(what, lambda number: wire.pack({**message, "call": number}), timeout, done)

    def call_frames(
        self, block: FrameBlock, timeout: float, done: Callable[[CallResult], None]
    ) -> None:
        """As `call`: hand over CAN frames of a client; the result says what became of each."""
        header = {"size": block.size}
        self._call(
            "sending",
            lambda number: wire.pack_frames({**header, "call": number}, block.records),
            timeout,
            done,
        )

    def _call(
        self,
        what: str,
        packed: Callable[[int], bytes],
        timeout: float,
        done: Callable[[CallResult], None],
    ) -> None:
        self._next_call += 1
        number = self._next_call
        if self._exited or not self._channel.send(packed(number)):
            gone = f"the worker of {self.name} is gone"
            why = self._channel.problem  # it is told before the end of the channel is
            done(
                CallResult(
                    error=Indeterminate(f"{gone}: {why}" if why else gone), fatal=True, gone=True
                )
            )
            return
        timer = self._loop.later(
            timeout, lambda: self._expire(number, f"{what} did not end within {timeout:g} s")
        )
        self._calls[number] = _Pending(done, timer)

    def tell(self, message: dict[str, Any]) -> None:
        """Send what wants no answer.

        Raises:
            Busy: the worker does not read and its buffer is full.
        """
        if not self._channel.send(wire.pack(message)):
            raise Busy(f"{self.name} does not take its input; try again later")

    def dismiss(self) -> None:
        """Let it end by itself, then kill it; its owner hears no more of it."""
        self._forgotten = True
        self._channel.send(wire.pack({"exit": True}))
        self._loop.later(EXIT_GRACE, self.kill)

    @abc.abstractmethod
    def kill(self, reason: str = "") -> None:
        """End the worker by force. `reason` is what its owner hears."""

    @abc.abstractmethod
    def wait(self, timeout: float) -> None:
        """Wait for the end of a killed worker, at the host's own end."""

    @abc.abstractmethod
    def _has_ended(self) -> bool:
        """Whether it runs no more."""

    @abc.abstractmethod
    def _on_eof(self, problem: str = "") -> None:
        """Its socket has closed; `problem` says why, when it was closed on this side."""

    def forgive(self) -> None:
        """The host itself stood still: silence up to now is not the worker's."""
        if self._heard is not None:
            self._heard = time.monotonic()

    def _watch(self) -> None:
        """Once a second: ask for a sign of life. Silence means that no thread of the worker runs
        any more."""
        if self._exited:
            self._watchdog.cancel()
            return
        if self._has_ended():  # and something it started keeps the socket open
            self._on_eof()
            return
        self._channel.send(wire.pack({"ping": True}))
        silence = self._limits.silence_s
        if self._heard is not None and time.monotonic() - self._heard > silence:
            self.kill(f"worker has not answered for {silence:g} s")

    def _on_bytes(self, data: bytes) -> None:
        """On the multiplexer's thread."""
        self._heard = time.monotonic()
        try:
            self._take(data)
        except wire.WireError as error:
            raise wire.WireError(f"worker sent what is no message: {error}") from None

    def _take(self, data: bytes) -> None:
        for kind, body in self._decoder.feed(data):
            if kind is wire.Kind.FRAMES:
                if not self._forgotten:
                    self._owner.on_frames(*wire.unpack_frames(body))
                continue
            message = wire.unpack(body)
            if "event" in message:
                self._count_event()
            self._loop.perform(lambda message=message: self._on_message(message))  # type: ignore[misc]

    def _count_event(self) -> None:
        second = int(time.monotonic())
        if second != self._event_second:
            self._event_second, self._events = second, 0
        self._events += 1
        if self._events > EVENTS_PER_SECOND:
            raise BufferError(
                f"worker floods its host: more than {EVENTS_PER_SECOND} events in a second"
            )

    def _on_message(self, message: dict[str, Any]) -> None:
        if "event" in message:
            if not self._forgotten:
                self._owner.on_event(message)
            return
        pending = self._calls.pop(message.get("call", 0), None)
        if pending is None:
            return
        pending.timer.cancel()
        if message.get("ok"):
            pending.done(CallResult(result=message.get("result")))
            return
        error = from_code(str(message.get("code")), str(message.get("message")))
        pending.done(CallResult(error=error, fatal=bool(message.get("fatal"))))

    def _expire(self, number: int, text: str) -> None:
        pending = self._calls.pop(number, None)
        if pending is not None:
            pending.done(CallResult(error=Timeout(text), fatal=True, gone=True))
            self.kill(text)

    def _on_closed(self, problem: str) -> None:
        """On the multiplexer's thread."""
        self._loop.post(lambda: self._on_eof(problem))

    def _over(self, reason: str) -> None:
        """It has ended: answer what waits, and tell the owner."""
        if self._exited:
            return
        self._exited = True
        self._watchdog.cancel()
        self._multiplexer.remove(self._channel)
        calls, self._calls = self._calls, {}
        for pending in calls.values():
            pending.timer.cancel()
            pending.done(CallResult(error=Indeterminate(reason), fatal=True, gone=True))
        if not self._forgotten:
            self._owner.on_exit(reason)
