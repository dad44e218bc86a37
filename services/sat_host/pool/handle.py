"""A worker as its host sees it: called with deadlines, watched for signs of life, ended, its end
explained.

What it runs in is the business of `process` and `thread`. Everything here runs on the host's work
loop, except the handing on of frames, which goes straight from the multiplexer's thread to
`on_frames`. Nothing a worker does or sends can block the loop.
"""

from __future__ import annotations

import abc
import socket
from dataclasses import dataclass
from functools import partial
from typing import Protocol, get_args

from sat_bus.service.loop import Timer, WorkLoop
from sat_bus.service.tasks import Promise
from sat_host import wire
from sat_host.outcome import Outcome
from sat_host.pool.multiplexer import Multiplexer
from sat_host.wire_messages import (
    RESULTS,
    Answer,
    Asked,
    BatchHeader,
    Call,
    Configure,
    Down,
    Event,
    Exit,
    Notice,
    Ping,
    Refusal,
    RunCommand,
    RunHook,
    SendFrames,
    StreamBatch,
    Up,
)
from sat_toolkit.errors import Busy, Indeterminate, Timeout, from_code

PING_PERIOD = 1.0
EXIT_GRACE = 2.0
SOCKET_BYTES_PER_S = 8 * 1_048_576
EVENTS_PER_SECOND = 1_000
_EVENTS = get_args(Event)
_ANSWERS = (Answer, Refusal)
_NO_MESSAGE = "worker sent what is no message"


@dataclass(slots=True)
class _Pending:
    request: Call
    outcome: Promise[Outcome]
    timer: Timer


class WorkerOwner(Protocol):
    """Who is told of a worker's doings. On the loop, but `on_frames`: on the multiplexer's
    thread."""

    def on_frames(self, header: BatchHeader, frames: bytes) -> None: ...

    def on_event(self, event: Event) -> None: ...

    def on_exit(self, reason: str) -> None: ...


class WorkerHandle(abc.ABC):
    """A worker. `name` names it in logs; `configure` is the first message it gets; `end` is the
    host's of its socket."""

    def __init__(
        self,
        name: str,
        configure: Configure,
        loop: WorkLoop,
        multiplexer: Multiplexer,
        owner: WorkerOwner,
        end: socket.socket,
    ) -> None:
        self.name = name
        self._limits = configure.limits
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
        self._decoder = wire.Decoder[Up](wire.UP)
        self._channel = multiplexer.add(end.detach(), self, bytes_per_s=SOCKET_BYTES_PER_S)
        self._send(configure)
        self._watchdog = loop.every(PING_PERIOD, self._watch)

    @property
    def alive(self) -> bool:
        return not self._exited

    def call(self, request: Call, timeout: float) -> Promise[Outcome]:
        """Ask the worker; the outcome is settled on the loop, once. A call that outlives `timeout`
        seconds fails with `Timeout`, one whose worker dies with `Indeterminate`: both fatal, and
        the worker is gone."""
        outcome: Promise[Outcome] = Promise()
        self._next_call += 1
        number = self._next_call
        if self._exited or not self._send(Asked(number, request)):
            gone = f"the worker of {self.name} is gone"
            why = self._channel.problem  # it is told before the end of the channel is
            outcome.set_result(_gone(Indeterminate(f"{gone}: {why}" if why else gone)))
        else:
            timer = self._loop.later(timeout, partial(self._expire, number, timeout))
            self._calls[number] = _Pending(request, outcome, timer)
        return outcome

    def tell(self, notice: Notice) -> None:
        """Send what wants no answer.

        Raises:
            Busy: the worker does not read and its buffer is full.
        """
        if not self._send(notice):
            raise Busy(f"{self.name} does not take its input; try again later")

    def dismiss(self) -> None:
        """Let it end by itself, then kill it; its owner hears no more of it."""
        self._forgotten = True
        self._send(Exit())
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
            self._heard = self._loop.now()

    def _send(self, message: Down) -> bool:
        return self._channel.send(wire.encode(message))

    def _watch(self) -> None:
        """Once a second: ask for a sign of life. Silence means that no thread of the worker runs
        any more."""
        if self._exited:
            self._watchdog.cancel()
            return
        if self._has_ended():  # and something it started keeps the socket open
            self._on_eof()
            return
        self._send(Ping())
        silence = self._limits.silence_s
        if self._heard is not None and self._loop.now() - self._heard > silence:
            self.kill(f"worker has not answered for {silence:g} s")

    # -- ChannelUser, on the multiplexer's thread ----------------------------------------------------

    def on_bytes(self, data: bytes) -> None:
        """What the worker sent: frames go straight on, all else to the loop."""
        self._heard = self._loop.now()
        try:
            for message in self._decoder.feed(data):
                if isinstance(message, StreamBatch):
                    if not self._forgotten:
                        self._owner.on_frames(message.header, message.frames)
                    continue
                if isinstance(message, _EVENTS):
                    self._count_event()
                self._loop.perform(partial(self._on_message, message))
        except wire.WireError as error:
            raise wire.WireError(f"{_NO_MESSAGE}: {error}") from None

    def on_closed(self, problem: str) -> None:
        """Its socket is closed."""
        self._loop.post(partial(self._on_eof, problem))

    def _count_event(self) -> None:
        second = int(self._loop.now())
        if second != self._event_second:
            self._event_second, self._events = second, 0
        self._events += 1
        if self._events > EVENTS_PER_SECOND:
            raise BufferError(
                f"worker floods its host: more than {EVENTS_PER_SECOND} events in a second"
            )

    # -- on the loop ---------------------------------------------------------------------------------

    def _on_message(self, message: Up) -> None:
        if isinstance(message, _ANSWERS):
            self._on_answer(message)
        elif isinstance(message, _EVENTS) and not self._forgotten:
            self._owner.on_event(message)

    def _on_answer(self, answer: Answer | Refusal) -> None:
        pending = self._calls.get(answer.call)
        if pending is None:  # it has expired meanwhile
            return
        try:
            outcome = _outcome(pending.request, answer)
        except wire.WireError as error:
            self.kill(f"{_NO_MESSAGE}: {error}")
            return
        del self._calls[answer.call]
        pending.timer.cancel()
        pending.outcome.set_result(outcome)

    def _expire(self, number: int, timeout: float) -> None:
        pending = self._calls.pop(number, None)
        if pending is not None:
            text = f"{_word(pending.request)} did not end within {timeout:g} s"
            pending.outcome.set_result(_gone(Timeout(text)))
            self.kill(text)

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
            pending.outcome.set_result(_gone(Indeterminate(reason)))
        if not self._forgotten:
            self._owner.on_exit(reason)


def _gone(error: Timeout | Indeterminate) -> Outcome:
    return Outcome(error=error, fatal=True, gone=True)


def _outcome(request: Call, answer: Answer | Refusal) -> Outcome:
    """What the answer to `request` says. Raises WireError."""
    if isinstance(answer, Refusal):
        return Outcome(error=from_code(answer.code, answer.message), fatal=answer.fatal)
    hint = RESULTS.get(type(request))
    if hint is None:
        return Outcome(answer.result)
    return Outcome(wire.read(hint, answer.result, f"the answer to {type(request).__name__}"))


def _word(request: Call) -> str:
    """How a call is called in a message to people."""
    if isinstance(request, RunCommand):
        return request.command
    if isinstance(request, RunHook):
        return request.hook
    return "sending" if isinstance(request, SendFrames) else type(request).__name__.lower()
