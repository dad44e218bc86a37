"""Runs programs as children, starts again those that end, and ends them all.

No thread and no knowledge of what the programs are: the owner calls `step` now and then, on the
thread that called `start` (the kernel ties a child's leash to that thread). Programs are started in
the order given and ended in the reverse order, so that the broker outlives those who say goodbye
through it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sat_cli.bench import leash

FIRST_DELAY = 0.5
LAST_DELAY = 8.0
MAX_RESTARTS = 8
STEADY = 30.0  # running this long, a program has proved itself and its restarts are forgotten
# A wrong setting, another program in its place, a program that is not there: trying again changes
# nothing.
HOPELESS = (2, 4, 127)
_LOG_BYTES = 5_000_000

Phase = Literal["waiting", "running", "failed", "stopped"]


@dataclass(frozen=True)
class Program:
    """What to run.

    Attributes:
        name: for messages and the name of the log.
        argv: the command line.
        env: on top of the environment.
        last: ended after all others that are not.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    last: bool = False


@dataclass(frozen=True)
class Ended:
    """A program ended by itself. `retry_in` is the time until it is started again; None: given
    up."""

    name: str
    status: str
    retry_in: float | None


@dataclass
class _Program:
    program: Program
    log: Path
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    due: float | None = None
    restarts: int = 0
    total_restarts: int = 0
    failed: bool = False


class Supervisor:
    """Keeps `programs` running.

    Args:
        logs: the folder for ``<name>.log``, standard output and error of each; it is made.
        first_delay, last_delay: seconds before a restart; it doubles from one to the other.
        max_restarts: in a row, before a program is given up.
    """

    def __init__(
        self,
        programs: Iterable[Program],
        *,
        logs: Path,
        first_delay: float = FIRST_DELAY,
        last_delay: float = LAST_DELAY,
        max_restarts: int = MAX_RESTARTS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self._children = {p.name: _Program(p, logs / f"{p.name}.log") for p in programs}
        self._first, self._last, self._max = first_delay, last_delay, max_restarts
        self._clock = clock

    def start(self, *names: str) -> None:
        """Start the programs named that do not run yet, or all."""
        for name in names or self._children:
            if self._children[name].process is None:
                self._spawn(self._children[name])

    def step(self) -> list[Ended]:
        """Notice what has ended, start again what is due; returns what has ended since the last
        call."""
        now = self._clock()
        ended = []
        for child in self._children.values():
            if child.process is not None and child.process.poll() is not None:
                ended.append(self._reap(child, now))
            if child.due is not None and now >= child.due:
                self._spawn(child)
        return ended

    def phases(self) -> dict[str, Phase]:
        """What each program is doing."""
        return {name: self._phase(child) for name, child in self._children.items()}

    def restarts(self) -> dict[str, int]:
        """How often each program was started again."""
        return {name: child.total_restarts for name, child in self._children.items()}

    def pids(self) -> dict[str, int]:
        """The process ids of those that run."""
        return {
            name: child.process.pid
            for name, child in self._children.items()
            if child.process is not None
        }

    def log(self, name: str) -> Path:
        """Where the program's output goes."""
        return self._children[name].log

    def tail(self, name: str, lines: int = 10) -> list[str]:
        """The last lines of a program's output."""
        try:
            with self.log(name).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 16_384))
                return file.read().decode(errors="replace").splitlines()[-lines:]
        except FileNotFoundError:
            return []

    def stop(self, timeout: float = 3.0) -> list[str]:
        """End all: SIGTERM, after `timeout` seconds SIGKILL, and then the same for those that are
        `last`.

        Returns the names of those that had to be killed.
        """
        for child in self._children.values():
            child.due = None
        children = list(reversed(self._children.values()))
        killed = _end([c for c in children if not c.program.last], timeout)
        return killed + _end([c for c in children if c.program.last], timeout / 2)

    def _spawn(self, child: _Program) -> None:
        child.due = None
        if child.log.exists() and child.log.stat().st_size > _LOG_BYTES:
            child.log.replace(child.log.with_suffix(".log.1"))
        argv = [
            sys.executable,
            "-I",
            "-S",
            str(leash.__file__),
            str(os.getpid()),
            *child.program.argv,
        ]
        with child.log.open("ab") as log:
            child.process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **child.program.env},
                start_new_session=True,  # a Ctrl-C at the terminal is for us alone; we end them in order
            )
        child.started = self._clock()

    def _reap(self, child: _Program, now: float) -> Ended:
        assert child.process is not None
        returncode = child.process.returncode
        status = _describe(returncode)
        child.process = None
        if now - child.started >= STEADY:
            child.restarts = 0
        if child.restarts >= self._max or returncode in HOPELESS:
            child.failed = True
            return Ended(child.program.name, status, None)
        delay = min(self._first * 2**child.restarts, self._last)
        child.restarts += 1
        child.total_restarts += 1
        child.due = now + delay
        return Ended(child.program.name, status, delay)

    @staticmethod
    def _phase(child: _Program) -> Phase:
        if child.process is not None:
            return "running"
        return "failed" if child.failed else "waiting" if child.due is not None else "stopped"


def _end(children: list[_Program], timeout: float) -> list[str]:
    running = [(c, c.process) for c in children if c.process is not None]
    for _, process in running:
        process.terminate()
        process.send_signal(signal.SIGCONT)  # one that is stopped could not hear it
    deadline = time.monotonic() + timeout
    killed = []
    for child, process in running:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            killed.append(child.program.name)
        child.process = None
    return killed


def _describe(returncode: int) -> str:
    if returncode >= 0:
        return f"exit status {returncode}"
    try:
        return f"killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"killed by signal {-returncode}"
