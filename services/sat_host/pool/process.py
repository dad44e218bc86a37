"""A worker in a process of its own, which dies with its host, and with all that it started."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable
from functools import partial

import structlog

from sat_bus.service.loop import WorkLoop
from sat_host.containment.census import (
    MARK,
    Census,
    all_pids,
    exceeds_memory,
    signal_all,
    take_census,
)
from sat_host.containment.cgroup import Cgroup
from sat_host.pool.handle import WorkerHandle, WorkerOwner
from sat_host.pool.multiplexer import Multiplexer
from sat_host.wire_messages import Configure

_log = structlog.get_logger(__name__)

REAP_PERIOD = 0.02
GRACE_AFTER_EOF = 0.5
OUTPUT_BYTES_PER_S = 131_072
MAX_LINE = 2_000
LINES_PER_SECOND = 200


class WorkerProcess(WorkerHandle):
    """A worker process.

    Attributes:
        mark: stands in the environment of the process and of all that it starts.
        cgroup: holds it with all that it starts, where there are cgroups to be had.
        left_behind: processes that it had left in its cgroup when it ended by itself.
    """

    def __init__(
        self,
        name: str,
        configure: Configure,
        loop: WorkLoop,
        multiplexer: Multiplexer,
        owner: WorkerOwner,
        cgroup: Cgroup | None = None,
    ) -> None:
        self.mark = uuid.uuid4().hex
        self.cgroup = cgroup
        self.left_behind = 0
        self._kill_reason = ""
        self._reaping = False
        ours, theirs = socket.socketpair()
        read_end, write_end = os.pipe()
        try:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",  # what lies in the folder where the host was started is not imported
                    "-m",
                    "sat_host.worker.server",
                    str(theirs.fileno()),
                    str(os.getpid()),
                ],
                stdin=subprocess.DEVNULL,
                stdout=write_end,
                stderr=write_end,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                env={**os.environ, MARK: self.mark},
            )
        except OSError:
            ours.close()
            os.close(read_end)
            if cgroup is not None:
                cgroup.remove()
            raise
        finally:
            theirs.close()
            os.close(write_end)
        if cgroup is not None:  # before it hears which driver to load
            self._enter(name, cgroup)
        multiplexer.add(read_end, _OutputLog(name, loop.now), bytes_per_s=OUTPUT_BYTES_PER_S)
        super().__init__(name, configure, loop, multiplexer, owner, ours)

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self, reason: str = "") -> None:
        """SIGKILL the worker and all below it. `reason` is what its owner hears instead of the
        signal's name."""
        if self._exited:
            return
        self._kill_reason = self._kill_reason or reason
        if self.cgroup is not None:
            self.cgroup.kill()
        else:
            signal_all(take_census(all_pids()).below(self._process.pid), signal.SIGKILL)
        self._kill_group()
        self._loop.post(
            self._on_eof
        )  # what it started may hold its socket open for longer than it lives

    def excess(self, census: Census, pids: list[int], ended: int) -> str:
        """Which limit it and what it started, `pids`, are over; empty when none. For the watch's
        thread.

        `ended`: those that were found outside its tree and ended meanwhile.
        """
        refused = self.cgroup is not None and self.cgroup.refused()
        if self.cgroup is not None and refused:
            pids = self.cgroup.pids()  # those it had before it was refused one may have been few
        if len(pids) + ended > self._limits.processes:  # many are not measured one by one
            return f"process limit of {self._limits.processes} exceeded"
        if self.cgroup is not None and refused:
            return f"limit of {self.cgroup.ceiling} processes and threads exceeded"
        if exceeds_memory(census, pids, self._limits.memory_mb * 1024):
            return f"memory limit of {self._limits.memory_mb} MiB exceeded"
        return ""

    def condemn(self, reason: str) -> None:
        """Have it killed for `reason`; from any thread. Whoever kills it from now on does so for
        that reason."""
        self._loop.post(partial(self.kill, reason))

    def wait(self, timeout: float) -> None:
        """Wait for a killed worker, at the host's own end."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)

    def _enter(self, name: str, cgroup: Cgroup) -> None:
        try:
            cgroup.add(self._process.pid)
        except ProcessLookupError:  # it has ended already
            pass
        except OSError as error:
            _log.warning("not in a cgroup", worker=name, error=str(error))
            cgroup.remove()
            self.cgroup = None

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _has_ended(self) -> bool:
        ended = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return ended is not None

    def _on_eof(self, problem: str = "") -> None:
        """The process has ended, or has lost its only way to be of use."""
        if self._reaping or self._exited:
            return
        self._reaping = True
        if problem:
            self.kill(problem)
        else:
            self._loop.later(GRACE_AFTER_EOF, partial(self.kill, "worker closed its connection"))
        self._reap()

    def _reap(self) -> None:
        if not self._has_ended():
            self._loop.later(REAP_PERIOD, self._reap)
            return
        if self.cgroup is not None:
            left = self.cgroup.kill()
            self.left_behind = 0 if self._kill_reason else left
        self._kill_group()  # while it still has its name
        status = self._process.wait()
        self._over(self._kill_reason or f"worker died: {explain_exit(status)}")


class _OutputLog:
    """What a worker prints, logged under its name: whole lines, cut and capped."""

    def __init__(self, name: str, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._log = _log.bind(worker=name)
        self._rest = b""
        self._second = 0
        self._lines = 0

    def on_closed(self, problem: str) -> None:
        """ChannelUser: the worker and all that it started have ended."""

    def on_bytes(self, data: bytes) -> None:
        """ChannelUser: what they printed."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[-MAX_LINE:]
        for line in lines:
            self._line(line[:MAX_LINE].decode("utf-8", "replace").rstrip())

    def _line(self, text: str) -> None:
        second = int(self._clock())
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
