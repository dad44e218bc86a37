"""Has a driver run in a child process, and outlives it.

What the child does is `sat_cli.kit.probe`. Each of its steps has a deadline; whatever becomes of
the child, a finding says in which step and, where the interpreter can tell, in which line.
"""

from __future__ import annotations

import json
import os
import re
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from sat_cli.bench import leash
from sat_cli.kit.findings import Finding

START_LIMIT = 30.0
LAST_WORDS = 2.0
_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)')
_DO_NOT_HANG = "give every wait a timeout: ports, sockets, queues and locks all take one"


@dataclass(frozen=True)
class Options:
    """How to run the driver.

    Attributes:
        info: its configuration, where it does not run on its simulator.
        simulate: whether to use the simulator beside it, if there is one.
        device: the device to use; None takes the first.
        limit: seconds that each step may take; None gives each the time that a driver host gives
            it.
    """

    info: Mapping[str, Any] = field(default_factory=dict)
    simulate: bool = True
    device: str | None = None
    limit: float | None = None


def run_probe(path: Path, options: Options) -> Iterator[Finding]:
    """Run the driver at `path` in a child process; its findings, and what became of it."""
    request = {
        "path": str(path.resolve()),
        "info": dict(options.info),
        "simulate": options.simulate,
        "device": options.device,
        "limit": options.limit,
    }
    with _Child(path.resolve()) as child:
        child.ask(request)
        yield from child.findings()
        if child.finished:
            yield from child.printed()


class _Child:
    """The process. `finished` is whether it came to its own end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.finished = False
        self._out = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - closed by __exit__
        self._err = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - closed by __exit__
        readable, writable = os.pipe()
        self._channel = os.fdopen(readable, "rb", buffering=0)
        leashed = [sys.executable, "-I", "-S", str(leash.__file__), str(os.getpid())]
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("SAT_")
        }
        try:
            self._process = subprocess.Popen(
                [*leashed, sys.executable, "-P", "-m", "sat_cli.kit.probe", str(writable)],
                stdin=subprocess.PIPE,
                stdout=self._out,
                stderr=self._err,
                env=environment,
                pass_fds=[writable],
                start_new_session=True,
            )
        finally:
            os.close(writable)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End it and all that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for file in (self._channel, self._out, self._err):
            file.close()

    def ask(self, request: Mapping[str, Any]) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        with (
            suppress(BrokenPipeError),
            stdin,
        ):  # when it is gone already, `findings` says what became of it
            stdin.write(json.dumps(request).encode())

    def findings(self) -> Iterator[Finding]:
        """What it says, and how it ends when that is not its own doing."""
        step, limit, rest = "start", START_LIMIT, b""
        deadline = time.monotonic() + limit
        with selectors.DefaultSelector() as selector:
            selector.register(self._channel, selectors.EVENT_READ)
            while True:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    self._abort()
                    yield Finding(
                        "fail",
                        step,
                        f"it hangs: no end after {limit:g} s",
                        *self._place(),
                        fix=_DO_NOT_HANG,
                    )
                    return
                data = self._channel.read(65_536)
                if not data:
                    yield self._death(step)
                    return
                *lines, rest = (rest + data).split(b"\n")
                for message in map(json.loads, lines):
                    if "finding" in message:
                        yield Finding(**message["finding"])
                    elif "end" in message:
                        self.finished = True
                        return
                    else:
                        step, limit = message["begin"], message["limit"]
                        deadline = time.monotonic() + limit

    def printed(self) -> Iterator[Finding]:
        """What it wrote to standard output, which is nobody's."""
        self._out.seek(0)
        first = self._out.readline(200).strip()
        if first:
            fix = "log with logging.getLogger(__name__)"
            yield Finding(
                "warn",
                "output",
                f"it writes to standard output: {first!r:.80}",
                str(self._path),
                0,
                fix,
            )

    def _abort(self) -> None:
        """Make it say where it hangs, which faulthandler does whatever holds the interpreter, and
        end it."""
        self._process.send_signal(signal.SIGABRT)
        try:
            self._process.wait(LAST_WORDS)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def _death(self, step: str) -> Finding:
        status = self._process.wait(LAST_WORDS)
        if status >= 0:
            text, fix = (
                f"ends with exit status {status}",
                "raise what went wrong; a driver never ends its process",
            )
        else:
            name = signal.Signals(-status).name
            flood = ": it writes more than 64 MB of output" if name == "SIGXFSZ" else ""
            text, fix = (
                f"is ended by {name}{flood}",
                "the fault is in native code, or somebody killed it",
            )
        return Finding("fail", step, f"the process {text}", *self._place(), fix=fix)

    def _place(self) -> tuple[str, int]:
        """Where it was, out of what faulthandler wrote: the innermost line in the plugin's
        folder."""
        self._err.seek(0)
        text = self._err.read(1_000_000)
        for part in (text.rpartition("Current thread")[2], text):
            for hit in _FRAME.finditer(part):
                if Path(hit["file"]).parent == self._path.parent:
                    return hit["file"], int(hit["line"])
        return str(self._path), 0
