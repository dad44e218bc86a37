"""What stands in for the outside of a worker's handle: a loop with a clock of its own, a multiplexer
that has no thread, and an owner that remembers."""

from __future__ import annotations

import socket
from collections.abc import Coroutine
from typing import Any

from sat_bus.service.loop import WorkLoop
from sat_bus.service.tasks import Promise, Task
from sat_host import wire
from sat_host.delivery import Delivery
from sat_host.outcome import Outcome
from sat_host.pool.handle import WorkerHandle
from sat_host.pool.multiplexer import Channel, ChannelUser, Multiplexer
from sat_host.wire_messages import (
    BatchHeader,
    Call,
    Configure,
    Down,
    Event,
    Notice,
    Up,
    WorkerLimits,
)

CONFIGURE = Configure(
    "drv_x", "custom", "/p/drv_x.py", {}, WorkerLimits(64, 8, 64, 3.0), Delivery(), {"device_id": "d"}
)  # fmt: skip


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    monotonic = __call__


class LoopRig:
    """A work loop whose time passes when it is told to."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.loop = WorkLoop("test", clock=self.clock)

    def settle(self) -> None:
        """Run all that is due."""
        done: list[bool] = []
        self.loop.post(lambda: done.append(True))  # timers that are due run before jobs
        assert self.loop.run_until(lambda: bool(done), 5.0)

    def pass_time(self, seconds: float) -> None:
        """Let `seconds` pass, in steps in which no timer is missed."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.clock.now = min(end, self.clock.now + 0.25)
            self.settle()

    def run(self, coroutine: Coroutine[Any, None, None]) -> None:
        Task(self.loop, coroutine)
        self.settle()


class FakeChannel(Channel):
    """A channel without a descriptor: what is sent is decoded and kept. `full`: it takes no more."""

    def __init__(self) -> None:
        self.problem = ""
        self.full = False
        self.sent: list[Down] = []
        self._decoder = wire.Decoder[Down](wire.DOWN)

    def send(self, data: bytes) -> bool:
        if not self.full:
            self.sent += self._decoder.feed(data)
        return not self.full


class FakeMultiplexer(Multiplexer):
    """Knows what was added and removed, and calls nobody."""

    def __init__(self) -> None:
        self.channels: list[FakeChannel] = []
        self.users: list[ChannelUser] = []
        self.removed: list[Channel] = []

    def add(self, fd: int, user: ChannelUser, *, bytes_per_s: float) -> Channel:
        socket.close(fd)
        self.users.append(user)
        self.channels.append(FakeChannel())
        return self.channels[-1]

    def remove(self, channel: Channel) -> None:
        self.removed.append(channel)


class FakeOwner:
    """Remembers what it is told of a worker."""

    def __init__(self) -> None:
        self.frames: list[tuple[BatchHeader, bytes]] = []
        self.events: list[Event] = []
        self.exits: list[str] = []

    def on_frames(self, header: BatchHeader, frames: bytes) -> None:
        self.frames.append((header, frames))

    def on_event(self, event: Event) -> None:
        self.events.append(event)

    def on_exit(self, reason: str) -> None:
        self.exits.append(reason)


class FakeWorker(WorkerHandle):
    """A worker that is nothing but its end of the socket; killed, it is over at once."""

    def __init__(self, rig: LoopRig, owner: FakeOwner, multiplexer: FakeMultiplexer) -> None:
        self.kills: list[str] = []
        self.ended = False
        end, self._far = socket.socketpair()
        self._far.close()
        super().__init__("drv_x/d", CONFIGURE, rig.loop, multiplexer, owner, end)
        self.channel = multiplexer.channels[-1]

    @property
    def sent(self) -> list[Down]:
        return self.channel.sent

    def says(self, *messages: Up) -> None:
        """It sends `messages`, which arrive in one piece."""
        self.on_bytes(b"".join(wire.encode(message) for message in messages))

    def kill(self, reason: str = "") -> None:
        self.kills.append(reason)
        self._over(reason or "killed")

    def wait(self, timeout: float) -> None: ...

    def _has_ended(self) -> bool:
        return self.ended

    def _on_eof(self, problem: str = "") -> None:
        self._over(problem or "ended")


class ScriptedWorker:
    """What a driver or device sees of a worker: its calls wait until the test settles them."""

    def __init__(self) -> None:
        self.calls: list[tuple[Call, float, Promise[Outcome]]] = []
        self.told: list[Notice] = []
        self.dismissed = False

    def call(self, request: Call, timeout: float) -> Promise[Outcome]:
        promise: Promise[Outcome] = Promise()
        self.calls.append((request, timeout, promise))
        return promise

    def answer(self, outcome: Outcome) -> None:
        """Settle the call that was made last."""
        self.calls[-1][2].set_result(outcome)

    def dismiss(self) -> None:
        self.dismissed = True
