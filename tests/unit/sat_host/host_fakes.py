"""What stands in for the surroundings of a host's devices: workers that do as the test says, and
readers that remember."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sat_bus.contract.messages import Meta
from sat_bus.service.tasks import Promise
from sat_host.devices.face import Face
from sat_host.outcome import Outcome
from sat_host.pool.handle import WorkerOwner
from sat_host.wire_messages import (
    BatchHeader,
    Call,
    CommandSpec,
    Describe,
    Description,
    Notice,
    RunCommand,
    RunHook,
    Scan,
)
from sat_toolkit.core.plugin_loader import PluginFile
from sat_toolkit.errors import Busy
from tests.unit.sat_host.fakes import ScriptedWorker

OBJECT = {"type": "object"}
ECHO = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
DESCRIPTION = Description(
    {
        "echo": CommandSpec("", ECHO),
        "sleep": CommandSpec("", OBJECT, 700),
        "start": CommandSpec("", OBJECT),
    },
    ["can"],
    5.0,
)
HEADER = BatchHeader("can", "json", "r1", 1, {}, b'{"stream":"r1","n":1')


def plugin(name: str = "drv_x") -> PluginFile:
    return PluginFile(name, "lab", Path(f"/plugins/lab/{name}.py"))


def device_info(device_id: str = "a", **more: Any) -> dict[str, Any]:
    return {"device_id": device_id, "name": device_id.upper(), "device_type": "CUSTOM", **more}


class Worker(ScriptedWorker):
    """A worker that answers at once what `answers` has an outcome for, and waits with the rest."""

    alive = True

    def __init__(self, name: str, owner: WorkerOwner, answers: dict[Any, Outcome]) -> None:
        super().__init__()
        self.name, self.owner, self.answers = name, owner, answers
        self.full = False
        self.killed = False

    def call(self, request: Call, timeout: float) -> Promise[Outcome]:
        promise = super().call(request, timeout)
        key = request if isinstance(request, RunHook) else type(request)
        outcome = self.answers.get(key)
        if outcome is not None:
            promise.set_result(outcome)
        return promise

    def tell(self, notice: Notice) -> None:
        if self.full:
            raise Busy("full")
        self.told.append(notice)

    def kill(self, reason: str = "") -> None:
        self.killed = True

    @property
    def requests(self) -> list[Call]:
        return [request for request, _, _ in self.calls]


class Workers:
    """A pool of such workers.

    Attributes:
        names: those that were started, with what was given to them.
        answers: what each new worker answers by itself.
        error: raised where a worker is wanted.
    """

    orphans_ended = 7

    def __init__(self) -> None:
        self.spawned: list[tuple[str, PluginFile, dict[str, Any] | None]] = []
        self.workers: list[Worker] = []
        self.error: OSError | None = None
        self.log: list[str] = []
        found = [device_info()]
        self.answers: dict[Any, Outcome] = {
            **{RunHook(hook): Outcome() for hook in ("initialize", "connect", "reset", "close")},
            Describe: Outcome(DESCRIPTION),
            Scan: Outcome(found),
        }

    @property
    def last(self) -> Worker:
        return self.workers[-1]

    def __len__(self) -> int:
        return len(self.workers)

    def spawn(
        self, name: str, plugin: PluginFile, device: dict[str, Any] | None, owner: WorkerOwner
    ) -> Any:
        if self.error is not None:
            raise self.error
        self.spawned.append((name, plugin, device))
        self.workers.append(Worker(name, owner, self.answers))
        return self.last

    def of(self, name: str) -> Worker:
        """The newest worker of that name."""
        return [worker for worker in self.workers if worker.name == name][-1]

    def find(self, *ids: str) -> None:
        """Scans find these devices from now on."""
        self.answers[Scan] = Outcome([device_info(each) for each in ids])

    def wait_with(self, *requests: Any) -> None:
        """Do not answer these by yourself."""
        for request in requests or (RunCommand,):
            self.answers.pop(request, None)

    def start(self) -> None:
        self.log.append("start")

    def forgive(self) -> None:
        self.log.append("forgive")

    def end(self) -> None:
        self.log.append("end")

    def stop(self) -> None:
        self.log.append("stop")


class Readers:
    """Readers that remember what they were told, in order."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def describe(self, driver: str, device: str, meta: Meta) -> None:
        self.heard.append(("describe", driver, device, meta))

    def show(self, driver: str, device: str, face: Face) -> None:
        self.heard.append(("show", driver, device, face))

    def tell(self, driver: str, device: str, event: str, fields: Mapping[str, Any]) -> None:
        self.heard.append(("tell", driver, device, event, dict(fields)))

    def settle_soon(self) -> None:
        self.heard.append(("settle",))

    @property
    def states(self) -> list[str]:
        return [entry[3].state.value for entry in self.heard if entry[0] == "show"]

    def of(self, kind: str) -> list[tuple[Any, ...]]:
        return [entry[1:] for entry in self.heard if entry[0] == kind]


class Frames:
    """Remembers the batches that pass."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, str, BatchHeader, bytes]] = []

    def publish(self, driver: str, device: str, header: BatchHeader, frames: bytes) -> None:
        self.batches.append((driver, device, header, frames))
