"""The sat command as a process, and a bench that it runs, for tests that look at what a person
would see."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sat_cli.brokers.tcp_ports import find_free_port
from tests.waiting import eventually

DEADLINE = 60.0
_MARK = "SAT_TEST_MARK"


@dataclass(frozen=True)
class Outcome:
    """How a command ended and what it said."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Sat:
    """The command for one broker, with state folders of its own.

    `mark` is in the environment of whatever it starts, however deep, so that `processes` finds all
    of it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = find_free_port()
        self.url = f"mqtt://127.0.0.1:{self.port}"
        self.mark = uuid.uuid4().hex
        self.env = {
            name: value for name, value in os.environ.items() if not name.startswith("SAT_")
        } | {
            "XDG_STATE_HOME": str(folder / "state"),
            "XDG_RUNTIME_DIR": str(folder),
            "COLUMNS": "120",
            "SAT_BROKER_URL": self.url,
            _MARK: self.mark,
        }

    def __call__(self, *words: str, **env: str) -> Outcome:
        argv = [sys.executable, "-m", "sat_cli", *words]
        done = subprocess.run(
            argv, env=self.env | env, capture_output=True, text=True, timeout=DEADLINE, check=False
        )  # fmt: skip
        assert "Traceback" not in done.stderr, done.stderr
        return Outcome(done.returncode, done.stdout, done.stderr)

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        with (self.folder / "up.log").open("wb") as log:
            argv = [sys.executable, "-m", "sat_cli", *words]
            return subprocess.Popen(
                argv, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def said(self) -> str:
        """What the started command has printed so far."""
        return (self.folder / "up.log").read_text(errors="replace")

    def processes(self) -> dict[int, str]:
        """The command lines of all processes that this one has started, directly or not, and that
        live."""
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if f"{_MARK}={self.mark}".encode() in (process / "environ").read_bytes():
                    found[int(process.name)] = (
                        (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    )
            except OSError:  # it ended, or it is not ours
                continue
        return {pid: line for pid, line in found.items() if line}

    def end(self, process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> int:
        """Send the signal and wait for the end; whatever is left after that is a failure of the
        test."""
        process.send_signal(number)
        status = process.wait(DEADLINE)
        assert eventually(lambda: not self.processes()), self.processes()
        return status
