"""What all benchmarks share: programs and what they cost, a broker, and what the machine is."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from sat_cli.brokers.mosquitto import MosquittoBroker, find_mosquitto

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
CACHE = Path(os.environ.get("BENCH_CACHE") or ROOT / ".cache" / "bench")
TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Context:
    """How to run.

    Attributes:
        quick: only see that the programs run; the numbers are not to be quoted.
        repetitions: how often ours and the peer are measured in turn.
        can: a CAN link to measure on, such as ``vcan0``; None: the stand-in, a UDP socket of the
            loopback.
        soak: minutes at full rate; 0: leave that out.
        sender_cpu: the processor that the sender is kept to; None: any.
    """

    quick: bool = False
    repetitions: int = 3
    can: str | None = None
    soak: float = 0.0
    sender_cpu: int | None = None

    @contextmanager
    def split(self) -> Iterator[Context]:
        """The same, but the sender has the last processor to itself and all that is started shares
        the others."""
        every = sorted(os.sched_getaffinity(0))
        if len(every) == 1:
            yield self
            return
        os.sched_setaffinity(0, every[:-1])
        try:
            yield replace(self, sender_cpu=every[-1])
        finally:
            os.sched_setaffinity(0, every)

    @contextmanager
    def broker(self, *, websocket: bool = False) -> Iterator[MosquittoBroker]:
        """A Mosquitto of our own on a free port of the loopback, with TCP_NODELAY, as racks have
        it."""
        binary = find_mosquitto()
        if binary is None:
            raise SystemExit(
                "bench: mosquitto is not on the PATH (Debian: apt-get install mosquitto)"
            )
        with tempfile.TemporaryDirectory(prefix="sat-bench-") as folder:
            ws_port = 0 if websocket else None
            broker = MosquittoBroker(
                binary, port=0, ws_port=ws_port, data_dir=Path(folder) / "broker"
            )
            broker.start()
            try:
                yield broker
            finally:
                broker.stop()

    def say(self, text: str) -> None:
        """Tell whoever waits how far it is."""
        sys.stderr.write(f"bench: {text}\n")


class Program:
    """A child process that says what it has to say as lines of JSON, each an object with the key
    ``event``.

    Its stderr goes to a file, the last words of which are told when it fails.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        env: Mapping[str, str] | None = None,
        folder: Path = ROOT,
    ) -> None:
        self.name = name
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop
        self._events: queue.Queue[dict[str, Any]] = queue.Queue()
        clean = {key: value for key, value in os.environ.items() if not key.startswith("SAT_")}
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._words,
            cwd=folder,
            env=clean | dict(env or {}),
        )
        self._reader = threading.Thread(target=self._read, name=f"read/{name}", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, line: str) -> None:
        """Write a line to its stdin."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def wait(self, event: str, timeout: float) -> dict[str, Any] | None:
        """The next `event`, others are passed over; None when it does not come in time.

        Raises:
            RuntimeError: the program has ended.
        """
        deadline = time.monotonic() + timeout
        while True:
            try:
                said = self._events.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return None
            if said["event"] == event:
                return said
            if said["event"] == "end":
                raise RuntimeError(f"{self.name} ended: {self.last_words()}")

    def need(self, event: str, timeout: float = 90.0) -> dict[str, Any]:
        """As `wait`, but it must come."""
        said = self.wait(event, timeout)
        if said is None:
            raise RuntimeError(
                f"{self.name} did not say {event!r} in {timeout} s: {self.last_words()}"
            )
        return said

    def last_words(self) -> str:
        """The end of its stderr."""
        self._words.seek(0)
        return self._words.read().decode(errors="replace")[-2000:]

    def stop(self) -> None:
        """End it, in an orderly way if it can."""
        self._process.terminate()
        try:
            self._process.wait(10.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(5.0)
        for pipe in (self._process.stdin, self._process.stdout, self._words):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with contextlib.suppress(ValueError):
                said = json.loads(line)
                if isinstance(said, dict) and "event" in said:
                    self._events.put(said)
        self._events.put({"event": "end"})


def say(event: str, **fields: Any) -> None:
    """How a program says something to its `Program`."""
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


def tree(pid: int) -> list[int]:
    """`pid` and all its descendants that run."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid]
    for one in found:
        found.extend(children.get(one, ()))
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time of `pid`, its descendants, and the children they have reaped (10 ms
    resolution)."""
    return (
        sum(
            sum(int(fields[index]) for index in range(11, 15))
            for one in tree(pid)
            if (fields := _stat(one))
        )
        / TICK
    )


def broker_pid(broker: MosquittoBroker) -> int:
    """The process of a broker that this process has started."""
    config = str(broker.data_dir / "mosquitto.conf").encode()
    return next(
        pid
        for pid in tree(os.getpid())
        if config in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    )


def memory_kb(pid: int) -> int:
    """Resident memory of `pid` and its descendants in KiB, shared pages counted in each."""
    pages = 0
    for one in tree(pid):
        with contextlib.suppress(OSError, ValueError, IndexError):
            pages += int(Path(f"/proc/{one}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of `values` lie; of a sorted sequence."""
    return values[min(len(values) - 1, int(len(values) * share))] if values else float("nan")


def machine() -> str:
    """The machine in one phrase."""
    model = platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(
            (line.partition(": ")[2] for line in lines if line.startswith("model name")), model
        )
    count = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{count} x {model}, {memory:.0f} GiB, {platform.system()} {platform.release().split('-')[0]}"


def versions(*distributions: str) -> dict[str, str]:
    """What it ran with: Python, Mosquitto, and `distributions` of Python."""
    found = {"Python": platform.python_version()}
    if binary := find_mosquitto():
        said = subprocess.run(
            [binary, "-h"], capture_output=True, text=True, check=False
        ).stdout.split()
        found["Mosquitto"] = next((word for word in said if word[:1].isdigit()), "?")
    return found | {name: importlib.metadata.version(name) for name in distributions}


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat from the state on; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
