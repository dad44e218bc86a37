"""Cyclic sending: frames that go out with a period until they are stopped or counted out.

On SocketCAN the kernel's broadcast manager keeps the time. Elsewhere one thread per bus serves all
its cyclic frames; a deadline that was missed is skipped, never made up for in a burst.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

import can
from can.broadcastmanager import CyclicSendTaskABC
from can.interfaces.socketcan import SocketcanBus

from plugins.devices.can.buses import reason
from plugins.devices.can.frames import message_to_dict
from sat_toolkit.errors import CommandFailed

_JOIN_TIMEOUT_S: Final = 3.0

Key = tuple[int, bool]
"""A cyclic frame's name: arbitration id and whether it is extended."""


def key_of(message: can.Message) -> Key:
    return message.arbitration_id, message.is_extended_id


class Cyclic(Protocol):
    """What the driver asks of a bus's cyclic sender. Periods are in seconds."""

    def start(self, message: can.Message, period: float, count: int | None) -> bool:
        """Send now and every `period`, `count` times or for ever; True if this replaced one of the
        same id."""

    def stop(self, key: Key | None) -> int:
        """End the one, or all; the number that ended."""

    def describe(self) -> list[dict[str, Any]]:
        """Each frame being sent, with ``period_ms`` and what is known of ``count``, ``sent`` and
        ``error``."""

    def close(self) -> None:
        """End all and let go of threads."""


def cyclic_sender(bus: can.BusABC, send: Callable[[can.Message], None], name: str) -> Cyclic:
    """The fitting sender for a bus. `send` sends one frame; `name` names the thread."""
    if isinstance(bus, SocketcanBus):
        return KernelCyclic(bus)
    return ThreadCyclic(send, name)


class KernelCyclic:
    """Cyclic frames in the hands of the kernel's broadcast manager."""

    def __init__(self, bus: can.BusABC) -> None:
        self._bus = bus
        self._tasks: dict[Key, tuple[CyclicSendTaskABC, can.Message, float, int | None, float]] = {}

    def start(self, message: can.Message, period: float, count: int | None) -> bool:
        replaced = self.stop(key_of(message)) > 0
        # The kernel is told a whole number of frames: duration / period, rounded down.
        duration = None if count is None else period * (count + 0.5)
        try:
            task = self._bus.send_periodic(message, period, duration)
        except OSError as error:
            raise CommandFailed(
                f"no cyclic sending: {error}. It needs the kernel's module can_bcm: `modprobe can_bcm` as root"
            ) from error
        except can.CanError as error:
            raise CommandFailed(f"no cyclic sending: {reason(error)}") from error
        self._tasks[key_of(message)] = (task, message, period, count, time.monotonic())
        return replaced

    def stop(self, key: Key | None) -> int:
        self._forget_finished()
        keys = [known for known in self._tasks if key is None or known == key]
        for known in keys:
            self._delete(known)
        return len(keys)

    def describe(self) -> list[dict[str, Any]]:
        self._forget_finished()
        return [
            _description(message, period, count)
            for _, message, period, count, _ in list(self._tasks.values())
        ]

    def close(self) -> None:
        self.stop(None)

    def _forget_finished(self) -> None:
        now = time.monotonic()
        for key, (_, _, period, count, since) in list(self._tasks.items()):
            if count is not None and now - since > count * period:
                self._delete(key)

    def _delete(self, key: Key) -> None:
        task = self._tasks.pop(key)[0]
        with suppress(can.CanError):  # the link went away and took the task along
            task.stop()


@dataclass
class _Job:
    message: can.Message
    period: float
    count: int | None
    due: float
    sent: int = 0
    failed: int = 0
    error: str | None = None


class ThreadCyclic:
    """Cyclic frames sent by a thread, which lives from the first `start` to `close`."""

    def __init__(self, send: Callable[[can.Message], None], name: str) -> None:
        self._send = send
        self._name = name
        self._jobs: dict[Key, _Job] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def start(self, message: can.Message, period: float, count: int | None) -> bool:
        with self._changed:
            replaced = self._jobs.get(key_of(message))
            self._jobs[key_of(message)] = _Job(message, period, count, time.monotonic())
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._changed.notify()
        return replaced is not None and replaced.error is None

    def stop(self, key: Key | None) -> int:
        with self._changed:
            keys = [known for known in self._jobs if key is None or known == key]
            running = sum(self._jobs.pop(known).error is None for known in keys)
            self._changed.notify()
        return running

    def describe(self) -> list[dict[str, Any]]:
        with self._changed:
            return [
                _description(job.message, job.period, job.count)
                | {"sent": job.sent, "failed": job.failed}
                | ({"error": job.error} if job.error else {})
                for job in self._jobs.values()
            ]

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._jobs.clear()
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(_JOIN_TIMEOUT_S)

    def _run(self) -> None:
        while (job := self._next_due()) is not None:
            try:
                self._send(job.message)
                job.sent += 1
            except CommandFailed:
                job.failed += 1  # the bus was busy: the next period tries again
            except Exception as error:  # noqa: BLE001 - a dead bus ends this frame, not the others' bookkeeping
                job.error = str(error)
            self._reschedule(job)

    def _next_due(self) -> _Job | None:
        with self._changed:
            while not self._closed:
                running = [job for job in self._jobs.values() if job.error is None]
                job = min(running, key=lambda job: job.due, default=None)
                wait = None if job is None else job.due - time.monotonic()
                if job is not None and wait is not None and wait <= 0:
                    return job
                self._changed.wait(wait)
            return None

    def _reschedule(self, job: _Job) -> None:
        with self._changed:
            if job.count is not None and job.sent + job.failed >= job.count:
                if self._jobs.get(key_of(job.message)) is job:
                    del self._jobs[key_of(job.message)]
                return
            job.due += job.period
            if (behind := time.monotonic() - job.due) > 0:
                job.due += (behind // job.period + 1) * job.period


def _description(message: can.Message, period: float, count: int | None) -> dict[str, Any]:
    frame: dict[str, Any] = dict(message_to_dict(message))
    frame.pop("tx", None)
    return frame | {"period_ms": period * 1000, "count": count}
