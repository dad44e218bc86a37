"""A ward: sick drivers next to a healthy one on the same host, and the evidence of what that did to
the neighbour.

Everything is measured from outside, by Mosquitto's own clients; what the sick drivers note is the
moment that they became sick. All clocks are this machine's monotonic one.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self

from tests.e2e.rack import DEADLINE, Rack

PLUGINS = Path(__file__).parents[1] / "plugins" / "vicious"
FAMILY, HOST = "vicious", "bench1-vicious"
SITE = "sat/1/lab"
HEALTHY = f"{SITE}/dev/{HOST}/drv_healthy/healthy"
POLICY = [{"match": "*", "level": "connected", "streams": {"custom": {}}}]
# All but the streams of the sick: an observer that drowns in those would see nothing in time.
FILTERS = (
    f"{SITE}/host/#",
    f"{SITE}/orch/#",
    f"{SITE}/dev/+/+/+/state",
    f"{SITE}/dev/+/+/+/status",
    f"{SITE}/dev/+/+/+/res/#",
    f"{HEALTHY}/stream/#",
)
LIMITS = {"SAT_WORKER_MEMORY_MB": "256", "SAT_WORKER_PROCESSES": "32", "SAT_WORKER_FILES": "128"}
SPAN = 6.0  # seconds of sickness that are watched at least
COMMAND_PERIOD = 0.5
CGROUPS = Path("/sys/fs/cgroup")
GRACE = 2.0  # seconds from the host's end until nothing of it is left


@dataclass(frozen=True)
class Sick:
    """A sick driver. It is ``drv_<name>``, made of the file ``drv_<plugin>.py``, and its device is
    ``<name>``.

    Attributes:
        reason: a regular expression for what the bus must say; empty where the device is to stay
            connected.
        deadline: seconds from the moment it is sick until the host has to know; one more to show
            it.
        shown: in the device's ``status``, in the host's ``birth`` for a driver that cannot be used,
            or in the answer to a ``scan``.
        ask: what a client asks of the connected device to make it sick: ``close``, ``reset``,
            ``stop`` or ``in``.
        devices: its devices as topics name them, where they are not one of the driver's name.
    """

    name: str
    reason: str = ""
    deadline: float = 0.0
    plugin: str = ""
    info: dict[str, Any] = field(default_factory=dict)
    shown: Literal["status", "birth", "scan"] = "status"
    ask: str = ""
    devices: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name

    @property
    def driver(self) -> str:
        return f"drv_{self.name}"

    @property
    def dev(self) -> str:
        return f"{SITE}/dev/{HOST}/{self.driver}/{self.name}"

    @property
    def devs(self) -> list[str]:
        """The topics of all its devices."""
        return [
            f"{SITE}/dev/{HOST}/{self.driver}/{device}" for device in self.devices or (self.name,)
        ]

    def told(self, topic: str, payload: str) -> bool:
        """Whether this message says what is wrong with it."""
        if self.shown == "birth":
            said = [one for one in _birth_drivers(topic, payload) if one["name"] == self.driver]
            return any(re.search(self.reason, str(one.get("error"))) for one in said)
        if self.shown == "scan":
            return (
                topic == f"{SITE}/orch/res/scan"
                and self.driver in payload
                and bool(re.search(self.reason, payload))
            )
        if topic != f"{self.dev}/status" or not payload:
            return False
        status = json.loads(payload)
        return status["state"] == "error" and bool(re.search(self.reason, status["reason"]))


def _birth_drivers(topic: str, payload: str) -> list[dict[str, Any]]:
    return (
        json.loads(payload)["drivers"] if topic == f"{SITE}/host/{HOST}/birth" and payload else []
    )


@dataclass(repr=False)
class Evidence:
    """What was seen of a ward.

    Attributes:
        began, ended: the time of sickness, in which the neighbour is measured.
        sent: the commands to the healthy device, by request id.
        notes: when each driver became sick, by its name.
        asked, told: when a client asked what makes it sick, and when the bus said what is wrong
            with it.
        latest: what each topic said last before the host was stopped.
        batches: some of the streams of those that are to stay connected, by device.
        processes: how many belonged to the host; `left` are those that outlived it, and cgroups
            that did.
    """

    sick: Sequence[Sick]
    history: list[tuple[float, str, str]] = field(default_factory=list)
    began: float = 0.0
    ended: float = 0.0
    sent: dict[str, float] = field(default_factory=dict)
    notes: dict[str, list[float]] = field(default_factory=dict)
    asked: dict[str, float] = field(default_factory=dict)
    told: dict[str, float] = field(default_factory=dict)
    latest: dict[str, str] = field(default_factory=dict)
    batches: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    processes: int = 0
    left: list[str] = field(default_factory=list)
    log: str = ""

    def logs(self) -> str:
        return self.log

    def heartbeat_gaps(self) -> list[float]:
        """Seconds between the host's heartbeats, from its first one on and up to the end."""
        times = [
            at
            for at, topic, _ in self.history
            if topic == f"{SITE}/host/{HOST}/heartbeat" and at <= self.ended
        ]
        return [later - earlier for earlier, later in pairwise([*times, self.ended])]

    def frame_rate(self, within: float) -> float:
        """Frames a second that the healthy device made and that arrived `within` so many
        seconds."""
        topic, wall = f"{HEALTHY}/stream/custom/json", time.time() - time.monotonic()
        batches = [
            (at, json.loads(text)["frames"]) for at, name, text in self.history if name == topic
        ]
        made = [(frame["t"] - wall, at) for at, frames in batches for frame in frames]
        arrived = sum(self.began <= t < self.ended and at - t <= within for t, at in made)
        return arrived / (self.ended - self.began)

    def time_to_tell(self, sick: Sick) -> float:
        """Seconds from the moment that it was sick, and that somebody asked where the answer is
        what tells."""
        return self.told[sick.name] - max(self.notes[sick.name][0], self.asked.get(sick.name, 0.0))

    def delays(self) -> dict[str, float]:
        """Seconds that the answer to each command took; infinity where none, or none that is ok,
        came."""
        answered: dict[str, float] = {}
        for at, topic, text in self.history:
            if topic == f"{HEALTHY}/res/echo":
                reply = json.loads(text)
                if reply["status"] == "ok":
                    answered.setdefault(reply["request_id"], at)
        return {name: answered.get(name, float("inf")) - at for name, at in self.sent.items()}

    def words(self, sick: Sick) -> list[str]:
        """What the bus said of a sick driver, for the message of a failed test."""
        if sick.shown == "status":
            texts = [
                text for _, topic, text in self.history if topic == f"{sick.dev}/status" and text
            ]
            return list(
                dict.fromkeys(
                    f"{json.loads(text)['state']}: {json.loads(text)['reason']}" for text in texts
                )
            )
        if sick.shown == "birth":
            drivers = [
                one for _, topic, text in self.history for one in _birth_drivers(topic, text)
            ]
            return list(
                dict.fromkeys(
                    str(one.get("error")) for one in drivers if one["name"] == sick.driver
                )
            )
        return [text for _, topic, text in self.history if topic == f"{SITE}/orch/res/scan"]


class Commander:
    """A client that sends the healthy device a command each half second, from one process."""

    def __init__(self, port: int) -> None:
        self.sent: dict[str, float] = {}
        argv = [
            "mosquitto_pub",
            "-V",
            "mqttv311",
            "-q",
            "1",
            "-p",
            str(port),
            "-t",
            f"{HEALTHY}/cmd/echo",
            "-l",
        ]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="commander")

    def _run(self) -> None:
        assert self._process.stdin is not None
        number = 0
        while not self._stop.wait(COMMAND_PERIOD):
            name = f"echo-{number}"
            line = json.dumps({"args": {"n": number}, "request_id": name, "timeout_ms": 5_000})
            self.sent[name] = time.monotonic()
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
            number += 1

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(DEADLINE)
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(DEADLINE)


class Ward:
    """Runs one host with the healthy driver and some sick ones, watches, and ends it."""

    def __init__(
        self,
        folder: Path,
        sick: Sequence[Sick],
        policy: list[dict[str, Any]] | None = None,
        env: dict[str, str] | None = None,
    ) -> None:
        self._mark = f"TEST_MARK={uuid.uuid4()}"
        self._notes = folder / "notes"
        self._notes.mkdir()
        self._plugins = folder / "plugins"
        self._evidence = Evidence(sick)
        self._read = 0
        self._rack = Rack(
            folder, "mosquitto", POLICY if policy is None else policy, can=False, filters=FILTERS
        )
        name, _, value = self._mark.partition("=")
        drivers = {one.driver: one.info for one in sick if one.info}
        self._env = {
            name: value,
            "TEST_NOTES": str(self._notes),
            "SAT_DRIVERS": json.dumps(drivers),
        }
        self._env |= LIMITS | (env or {})

    @contextmanager
    def open(self) -> Iterator[Rack]:
        """The rack with the ward's host, which has just been started; nothing of it is left
        behind."""
        self._fill_plugins()
        with self._rack as rack:
            try:
                rack.add_host(FAMILY, self._plugins, self._env)
                yield rack
            finally:
                self._evidence.log = rack.logs()
                for program in rack.extra:
                    program.stop()
                for pid in processes(self._mark):
                    os.kill(pid, signal.SIGKILL)

    def run(self) -> Evidence:
        """Watch the ward from the first frame of the healthy device to the end of the host."""
        evidence = self._evidence
        with self.open() as rack:
            rack.observer.wait_streaming(dev=HEALTHY, stream="custom")
            with Commander(rack.port) as commander:
                self._watch()
            evidence.sent = commander.sent
            self._await_answers()
            self._interview()
            evidence.processes = len(processes(self._mark))
            host = rack.extra[-1].pid
            rack.extra[-1].stop()
            self._update()
            evidence.left = self._left() + [
                str(path) for path in CGROUPS.glob(f"**/sat-host-*-{host}-*")
            ]
        return evidence

    def _fill_plugins(self) -> None:
        family = self._plugins / FAMILY
        family.mkdir(parents=True)
        for name in ("drv_healthy.py", "sick.py"):
            shutil.copy(PLUGINS / name, family)
        for sick in self._evidence.sick:
            shutil.copy(
                PLUGINS / f"drv_{sick.plugin or sick.name}.py", family / f"{sick.driver}.py"
            )

    def _watch(self) -> None:
        """Until everything expected was told, or is overdue; and `SPAN` seconds of sickness at the
        least."""
        evidence = self._evidence
        start = time.monotonic()
        limit = start + max((sick.deadline for sick in evidence.sick), default=0.0) + 2 * SPAN
        while True:
            now = time.monotonic()
            self._update()
            for sick in evidence.sick:
                if (
                    (sick.ask or sick.shown == "scan")
                    and sick.name not in evidence.asked
                    and self._ask(sick)
                ):
                    evidence.asked[sick.name] = now
            onsets = [times[0] for times in evidence.notes.values()]
            evidence.began = max(start, min(onsets, default=start))
            evidence.ended = now
            if now >= limit or (self._all_shown() and now - evidence.began >= SPAN):
                return
            threading.Event().wait(0.2)

    def _all_shown(self) -> bool:
        """Whether each is where it is expected to be: told of, or connected."""
        latest = self._rack.observer.latest
        return all(
            sick.name in self._evidence.told
            if sick.reason
            else all(latest.get(f"{dev}/state") == "connected" for dev in sick.devs)
            for sick in self._evidence.sick
        )

    def _await_answers(self) -> None:
        """The last ones may still be on their way."""
        deadline = time.monotonic() + GRACE
        while float("inf") in self._evidence.delays().values() and time.monotonic() < deadline:
            threading.Event().wait(0.05)
            self._update()

    def _interview(self) -> None:
        """Ask those that are to stay connected for a sign of life, and look at what they stream."""
        observer = self._rack.observer
        devs = [dev for sick in self._evidence.sick if not sick.reason for dev in sick.devs]
        listen = ["mosquitto_sub", "-p", str(self._rack.port), "-C", "10", "-W", "2", "-t"]
        with ExitStack() as stack:
            # Into files: a pipe holds less than one batch of a flood, and nobody reads all of them
            # at once.
            files = {dev: stack.enter_context(tempfile.TemporaryFile()) for dev in devs}
            ears = {
                dev: subprocess.Popen(
                    [*listen, f"{dev}/stream/+/json"], stdout=file, stderr=subprocess.DEVNULL
                )
                for dev, file in files.items()
            }
            for dev, ear in ears.items():
                self._rack.publish(f"{dev}/cmd/pid", "{}")
                ear.wait(timeout=DEADLINE)
                files[dev].seek(0)
                self._evidence.batches[dev] = [json.loads(line) for line in files[dev]]
        deadline = time.monotonic() + GRACE
        while time.monotonic() < deadline and not all(
            f"{dev}/res/pid" in observer.latest for dev in devs
        ):
            threading.Event().wait(0.05)
        self._evidence.latest = observer.latest.copy()

    def _ask(self, sick: Sick) -> bool:
        """Once the time has come, ask what makes it sick; whether it was asked."""
        rack = self._rack
        if sick.shown == "scan":
            envelope = {"args": {"driver": sick.driver}, "timeout_ms": 60_000}
            rack.publish(f"{SITE}/orch/req/scan", json.dumps(envelope))
        elif rack.observer.latest.get(f"{sick.dev}/state") != "connected" or (
            '"running"' not in rack.observer.latest.get(f"{sick.dev}/status", "")
        ):
            return False
        elif sick.ask == "stop":
            rack.publish(f"{sick.dev}/cmd/stop", "{}")
        elif sick.ask == "in":
            rack.publish(f"{sick.dev}/in/custom/json", '{"action": "send", "data": 1}')
        else:
            rack.publish(f"{SITE}/orch/req/{sick.ask}", json.dumps({"device": sick.name}))
        return True

    def _update(self) -> None:
        """Take in what is new."""
        evidence = self._evidence
        evidence.history = self._rack.observer.messages()
        for at, topic, payload in evidence.history[self._read :]:
            for sick in evidence.sick:
                if sick.reason and sick.name not in evidence.told and sick.told(topic, payload):
                    evidence.told[sick.name] = at
        self._read = len(evidence.history)
        for file in self._notes.iterdir():
            evidence.notes[file.name.removeprefix("drv_")] = [
                float(line) for line in file.read_text().split()
            ]

    def _left(self) -> list[str]:
        deadline = time.monotonic() + GRACE
        while (left := processes(self._mark)) and time.monotonic() < deadline:
            threading.Event().wait(0.05)
        return [f"{pid}: {_command_line(pid)}" for pid in left]


def processes(mark: str) -> list[int]:
    """The processes whose environment held `mark` when they started."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark.encode() in (entry / "environ").read_bytes().split(
                b"\0"
            ):
                found.append(int(entry.name))
        except OSError:  # it ended while we looked
            continue
    return found


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return "gone by now"
