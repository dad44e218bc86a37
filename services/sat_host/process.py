"""A worker process as its host sees it: spawned, called with deadlines, killed, and its end explained.

Everything here runs on the host's work loop, except the handing on of frames, which goes straight from the
multiplexer's thread to `on_frames`. Nothing a worker does or sends can block the loop.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import structlog

from sat_bus.loop import Timer, WorkLoop
from sat_host import wire
from sat_host.census import Census, kill_all, take_census
from sat_host.limits import WorkerLimits
from sat_host.multiplexer import Channel, Multiplexer
from sat_toolkit.errors import Busy, Indeterminate, SatError, Timeout, from_code

_log = structlog.get_logger(__name__)

PING_PERIOD = 1.0
REAP_PERIOD = 0.02
SOCKET_BYTES_PER_S = 8 * 1_048_576
OUTPUT_BYTES_PER_S = 131_072
MAX_UNHANDLED = 1_000
GRACE_AFTER_EOF = 0.5
EXIT_GRACE = 2.0
MAX_LINE = 2_000
LINES_PER_SECOND = 200


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
    """Who is told of a worker's doings. On the loop, but `on_frames`: on the multiplexer's thread."""

    def on_frames(self, header: dict[str, Any], frames: bytes) -> None: ...

    def on_event(self, event: dict[str, Any]) -> None: ...

    def on_exit(self, reason: str) -> None: ...


class WorkerProcess:
    """One worker process. `name` names it in logs; `config` is the first message it gets."""

    def __init__(
        self, name: str, config: dict[str, Any], loop: WorkLoop, multiplexer: Multiplexer, owner: WorkerOwner
    ) -> None:
        self.name = name
        self._limits: WorkerLimits = config["limits"]
        self._loop = loop
        self._owner = owner
        self._calls: dict[int, _Pending] = {}
        self._next_call = 0
        self._exited = False
        self._forgotten = False
        self._heard: float | None = None
        self._kill_reason = ""
        self._unhandled = 0
        self._decoder = wire.Decoder()
        self._output = _OutputLog(name)
        ours, theirs = socket.socketpair()
        read_end, write_end = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "sat_host.worker", str(theirs.fileno()), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=write_end,
                stderr=write_end,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        finally:
            theirs.close()
            os.close(write_end)
        self._channel: Channel = multiplexer.add(
            ours.detach(), self._on_bytes, self._closed, bytes_per_s=SOCKET_BYTES_PER_S
        )
        multiplexer.add(read_end, self._output.feed, lambda: None, bytes_per_s=OUTPUT_BYTES_PER_S)
        self._channel.send(wire.pack({"config": {**config, "limits": asdict(self._limits)}}))
        self._watchdog = loop.every(PING_PERIOD, self._ping)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return not self._exited

    def call(self, message: dict[str, Any], timeout: float, done: Callable[[CallResult], None]) -> None:
        """Ask the worker; `done` is called once, on the loop. A call that outlives `timeout` seconds fails with
        `Timeout`, fatal; one whose worker dies fails with `Indeterminate`, fatal."""
        self._next_call += 1
        number = self._next_call
        if self._exited or not self._channel.send(wire.pack({**message, "call": number})):
            done(CallResult(error=Indeterminate(f"the worker of {self.name} is gone"), fatal=True, gone=True))
            return
        what = message.get("command") or message["do"]
        timer = self._loop.later(timeout, lambda: self._expire(number, f"{what} did not end within {timeout:g} s"))
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

    def kill(self, reason: str = "") -> None:
        """SIGKILL the worker and all below it. `reason` is what its owner hears instead of the signal's name."""
        if not self._exited:
            self._kill_reason = self._kill_reason or reason
            kill_all(take_census().below(self._process.pid))
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def forgive(self) -> None:
        """The host itself stood still: silence up to now is not the worker's."""
        if self._heard is not None:
            self._heard = time.monotonic()

    def check(self, census: Census) -> None:
        """Kill it when it and what it started use more than their limits."""
        usage = census.usage(self._process.pid)
        if usage.memory_kb > self._limits.memory_mb * 1024:
            self.kill(f"memory limit of {self._limits.memory_mb} MiB exceeded")
        elif usage.processes > self._limits.processes:
            self.kill(f"process limit of {self._limits.processes} exceeded")

    def wait(self, timeout: float) -> None:
        """Wait for a killed worker, at the host's own end."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)

    def _ping(self) -> None:
        """Ask for a sign of life. Silence means that no thread of the worker runs any more."""
        if self._exited:
            self._watchdog.cancel()
            return
        self._channel.send(wire.pack({"ping": True}))
        silence = self._limits.silence_s
        if self._heard is not None and time.monotonic() - self._heard > silence:
            self.kill(f"worker has not answered for {silence:g} s")

    def _on_bytes(self, data: bytes) -> None:
        """On the multiplexer's thread."""
        self._heard = time.monotonic()
        for kind, body in self._decoder.feed(data):
            if kind is wire.Kind.FRAMES:
                if not self._forgotten:
                    self._owner.on_frames(*wire.unpack_frames(body))
                continue
            message = wire.unpack(body)
            self._unhandled += 1
            if self._unhandled > MAX_UNHANDLED:
                raise wire.WireError(f"more than {MAX_UNHANDLED} messages wait")
            self._loop.post(lambda message=message: self._on_message(message))  # type: ignore[misc]

    def _on_message(self, message: dict[str, Any]) -> None:
        self._unhandled -= 1
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
            self.kill(text)
            pending.done(CallResult(error=Timeout(text), fatal=True, gone=True))

    def _closed(self) -> None:
        """On the multiplexer's thread."""
        self._loop.post(self._on_eof)

    def _on_eof(self) -> None:
        """The socket closed: the process has ended, or has lost its only way to be of use."""
        self._loop.later(GRACE_AFTER_EOF, lambda: self.kill("worker closed its connection, or sent what is no message"))
        self._reap()

    def _reap(self) -> None:
        if os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            self._loop.later(REAP_PERIOD, self._reap)
            return
        self.kill()  # what it started and left behind, while its process group still has its name
        status = self._process.wait()
        self._exited = True
        self._watchdog.cancel()
        reason = self._kill_reason or f"worker died: {explain_exit(status)}"
        calls, self._calls = self._calls, {}
        for pending in calls.values():
            pending.timer.cancel()
            pending.done(CallResult(error=Indeterminate(reason), fatal=True, gone=True))
        if not self._forgotten:
            self._owner.on_exit(reason)


class _OutputLog:
    """What a worker prints, logged under its name: whole lines, cut and capped."""

    def __init__(self, name: str) -> None:
        self._log = _log.bind(worker=name)
        self._rest = b""
        self._second = 0
        self._lines = 0

    def feed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[-MAX_LINE:]
        for line in lines:
            self._line(line[:MAX_LINE].decode("utf-8", "replace").rstrip())

    def _line(self, text: str) -> None:
        second = int(time.monotonic())
        if second != self._second:
            if self._lines > LINES_PER_SECOND:
                self._log.warning("output cut", lines=self._lines - LINES_PER_SECOND)
            self._second, self._lines = second, 0
        self._lines += 1
        if self._lines <= LINES_PER_SECOND and text:
            self._log.info("output", line=text)


def explain_exit(status: int) -> str:
    """A return code in words: ``signal SIGSEGV``, ``exit status 3``."""
    if status < 0:
        try:
            return f"signal {signal.Signals(-status).name}"
        except ValueError:
            return f"signal {-status}"
    return f"exit status {status}"
