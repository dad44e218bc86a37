"""A driver host at the level of the bus, and an orchestrator beside it, in one process and with
short times."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sat_bus.contract import messages, topics
from sat_bus.contract.boot import new_boot
from sat_bus.contract.messages import (
    Birth,
    DriverInfo,
    Heartbeat,
    HostState,
    Manifest,
    Meta,
    Request,
    Status,
    StreamStatus,
)
from sat_bus.service.loop import WorkLoop
from sat_bus.testing.memory import MemoryBroker, MemoryBus
from sat_bus.transport.bus import Inbound, Will
from sat_orchestrator.service import Orchestrator
from sat_orchestrator.settings import OrchestratorSettings
from sat_orchestrator.store.database import Database
from sat_orchestrator.store.store import Store
from sat_toolkit.core import lifecycle
from sat_toolkit.core.device_spec import DeviceState
from sat_toolkit.core.lifecycle import Operation
from sat_toolkit.errors import BadState, Fenced, SatError, UnknownDevice

SITE = "lab"
DRIVER = "drv_fake"
BEAT_S = 0.1
LOST_AFTER_S = 0.6
PATIENCE_S = 10.0

_boots = iter(range(1, 10_000))


def wait_for(condition: Callable[[], Any], what: str, timeout: float = PATIENCE_S) -> Any:
    """The first true value of `condition`, asked until the deadline."""
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        pause.wait(0.01)
    return value


@dataclass
class FakeDevice:
    """A device of the fake host. `plugged` False: a scan does not find it."""

    name: str
    state: DeviceState = DeviceState.UNKNOWN
    previous: DeviceState = DeviceState.UNKNOWN
    hardware_id: str | None = None
    plugged: bool = True
    rev: int = 0
    by: str = "host"
    reason: str = ""
    operation: str = ""
    streams: dict[str, StreamStatus] = field(default_factory=dict)


class FakeHost:
    """Answers `host/<name>/req/<op>` as the contract says; `did` counts the driver's hooks that
    were called."""

    def __init__(self, broker: MemoryBroker, *devices: str, name: str = "bench") -> None:
        self.broker, self.name = broker, name
        self.devices = {device: FakeDevice(device) for device in devices}
        self.did: Counter[str] = Counter()
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.ids: list[str | None] = []
        self.epoch_seen = 0
        self._lock = threading.RLock()
        self._frozen = False
        self._begin()

    def _begin(self) -> None:
        self.boot = new_boot(1_700_000_000_000 + next(_boots), b"\x01\x02\x03\x04")
        self.client = f"{self.name}-{self.boot}"
        will = Will(
            self._topic(topics.HOST_STATE), HostState(state="offline", boot=self.boot).encode()
        )
        self.bus = MemoryBus(self.broker, self.client, will=will)
        for topic in topics.HOST_REQUEST.filters(SITE, host=self.name):
            self.bus.subscribe(topic, self._on_request)
        for topic in topics.DEVICE_STATUS.filters(SITE, host=self.name):
            self.bus.subscribe(topic, self._on_own_status)
        self.bus.on_connection(lambda up: self.resync() if up else None)
        self._stopped = threading.Event()
        self._beats = threading.Thread(target=self._beat, name=f"fake/{self.name}")
        self.bus.start()
        self._beats.start()

    # -- what a test does to it --------------------------------------------------------------------

    def kill(self) -> None:
        """As kill -9: the will goes out, nothing else does."""
        self._stopped.set()
        self._beats.join()
        self.broker.kill(self.client)
        self.bus.close()

    def restart(self) -> None:
        """A new process after `kill`: a new boot, and devices that it has to find anew."""
        for device in self.devices.values():
            device.state, device.streams, device.rev = DeviceState.UNKNOWN, {}, 0
        self._begin()

    def close(self) -> None:
        self._stopped.set()
        self._beats.join()
        self.bus.close()

    def freeze(self) -> None:
        """As SIGSTOP: no heartbeat, no answer."""
        self._frozen = True

    def thaw(self) -> None:
        self._frozen = False

    def command(self, device: str, stream: str, state: str, by: str, ident: str) -> None:
        """A client starts or stops a stream by a command."""
        with self._lock:
            fake = self.devices[device]
            fake.streams = {
                **fake.streams,
                stream: StreamStatus(state=state, stream=ident, by=by, args={"by": by}),
            }
            self._show(fake, fake.state, by, state)

    def fail(self, device: str, reason: str) -> None:
        """The device breaks by itself."""
        with self._lock:
            self._show(self.devices[device], DeviceState.ERROR, "host", "", reason)

    def obey(self, epoch: int) -> None:
        """It has taken a request of this epoch, and has yet to say so in its birth."""
        with self._lock:  # a scan in progress ends with a birth
            self.epoch_seen = epoch

    def publish_meta(self, device: str) -> None:
        fake = self.devices[device]
        meta = Meta(
            name=fake.name, device_type="CAN", hardware_id=fake.hardware_id, streams=["can"]
        )
        self._retain(self._topic(topics.DEVICE_META, fake), meta.encode())

    # -- what it does by itself --------------------------------------------------------------------

    def resync(self) -> None:
        with self._lock:
            self._retain(
                self._topic(topics.HOST_STATE), HostState(state="ready", boot=self.boot).encode()
            )
            self._birth()
            for fake in self.devices.values():
                if fake.rev:
                    self.publish_meta(fake.name)
                    self._publish(fake)

    def _birth(self) -> None:
        shown = [fake for fake in self.devices.values() if fake.rev]
        birth = Birth(
            boot=self.boot,
            family="can",
            drivers=[DriverInfo(name=DRIVER)],
            manifest=Manifest(count=len(shown), rev=max((fake.rev for fake in shown), default=0)),
            epoch_seen=self.epoch_seen,
            version="0",
            clock=0.0,
        )
        self._retain(self._topic(topics.HOST_BIRTH), birth.encode())

    def _beat(self) -> None:
        n = 0
        while not self._stopped.wait(BEAT_S):
            n += 1
            if not self._frozen:
                beat = Heartbeat(boot=self.boot, n=n, mono_ms=n)
                self.bus.publish(self._topic(topics.HOST_HEARTBEAT), beat.encode(), qos=0)

    def _on_own_status(self, inbound: Inbound) -> None:
        """Somebody wrote a status of ours: an orchestrator in our stead. Mended when thawed, on
        resync."""

    def _on_request(self, inbound: Inbound) -> None:
        match = topics.parse(SITE, inbound.topic)
        assert match is not None
        request = messages.parse_request(inbound.payload)
        if self._frozen:
            return
        with self._lock:
            self.asked.append((match.levels["op"], request.args))
            self.ids.append(request.request_id)
            try:
                result, fake = self._run(match.levels["op"], request)
                state = fake.state if fake else None
                reply = messages.ok(
                    request, host=self.name, boot=self.boot, result=result, state=state
                )
            except SatError as error:
                known = self.devices.get(request.args.get("device", ""))
                state = known.state if known else None
                reply = messages.failed(
                    request.request_id, error, host=self.name, boot=self.boot, state=state
                )
        assert request.reply_to is not None
        self.bus.publish(request.reply_to, reply.encode())

    def _run(self, op: str, request: Request) -> tuple[Any, FakeDevice | None]:
        epoch = request.epoch or 0
        if epoch < self.epoch_seen:
            raise Fenced(f"epoch {epoch} is over")
        self.epoch_seen = epoch
        if op == "resync":
            self.resync()
            return {}, None
        if op == "scan":
            return self._scan(), None
        fake = self.devices.get(request.args["device"])
        if fake is None or not fake.rev:
            raise UnknownDevice(f"unknown device {request.args['device']}")
        if op == "forget":
            fake.rev = 0
            for topic in (topics.DEVICE_STATE, topics.DEVICE_STATUS, topics.DEVICE_META):
                self._retain(self._topic(topic, fake), b"")
            return {}, None
        if op == "start":
            return self._start(fake, request.args), fake
        return self._operate(fake, Operation(op)), fake

    def _scan(self) -> dict[str, Any]:
        self.did["scan"] += 1
        for fake in self.devices.values():
            if fake.plugged and fake.state is DeviceState.UNKNOWN:
                fake.rev = fake.rev or 1
                self.publish_meta(fake.name)
                self._show(fake, DeviceState.DISCOVERED, "host", "scan")
            elif not fake.plugged and fake.rev and fake.state is not DeviceState.UNKNOWN:
                self._show(fake, DeviceState.UNKNOWN, "host", "scan", "unplugged")
        self._birth()
        listed = [
            {"driver": DRIVER, "device": fake.name, "state": fake.state, "new": False}
            for fake in self.devices.values()
            if fake.rev
        ]
        return {"devices": listed, "errors": {}}

    def _start(self, fake: FakeDevice, args: dict[str, Any]) -> str:
        if fake.state is not DeviceState.CONNECTED:
            raise BadState(f"{fake.name} is {fake.state}")
        self.did[f"start {args['stream']}"] += 1
        status = StreamStatus(
            state="running", stream=f"s{fake.rev}", by="orchestrator", args=args["args"]
        )
        fake.streams = {**fake.streams, args["stream"]: status}
        self._show(fake, fake.state, "orchestrator", "start")
        return "started"

    def _operate(self, fake: FakeDevice, operation: Operation) -> dict[str, Any]:
        steps = lifecycle.plan(operation, fake.state)
        for step in steps:
            self.did[f"{step.operation} {fake.name}"] += 1
            if operation in (Operation.RESET, Operation.CLOSE):
                fake.streams = {}
            self._show(fake, lifecycle.apply(fake.state, step.target), "orchestrator", operation)
        return {"changed": bool(steps)}

    def _show(
        self, fake: FakeDevice, state: DeviceState, by: str, operation: str, reason: str = ""
    ) -> None:
        if state is not fake.state:
            fake.previous, fake.state = fake.state, state
        fake.by, fake.operation, fake.reason = by, operation, reason
        fake.rev += 1
        self._publish(fake)

    def _publish(self, fake: FakeDevice) -> None:
        status = Status(
            state=fake.state, previous=fake.previous, since=0.0, rev=fake.rev, boot=self.boot, by=fake.by,
            reason=fake.reason, operation=fake.operation, acquiring=bool(fake.streams), streams=fake.streams,
        )  # fmt: skip
        self._retain(self._topic(topics.DEVICE_STATUS, fake), status.encode())
        self._retain(self._topic(topics.DEVICE_STATE, fake), fake.state.value.encode())

    def _retain(self, topic: str, payload: bytes) -> None:
        self.bus.publish(topic, payload, retain=True, traffic=topics.Traffic.STATE)

    def _topic(self, topic: topics.Topic, fake: FakeDevice | None = None) -> str:
        levels = {"driver": DRIVER, "device": fake.name} if fake is not None else {}
        return topic.build(SITE, host=self.name, **levels)


class RunningOrchestrator:
    """An orchestrator on its own thread."""

    def __init__(self, broker: MemoryBroker, database: Path, **settings: Any) -> None:
        self.broker = broker
        self.own = f"orchestrator-{1_700_000_000_000 + next(_boots)}-00"
        self.loop = WorkLoop("orchestrator")
        self.store = Store(Database(f"sqlite:///{database}"), self.loop)
        kept = self.store.open()
        will = Will(
            topics.ORCHESTRATOR_STATE.build(SITE),
            messages.OrchestratorState(state="offline", id=self.own, epoch=kept.epoch + 1).encode(),
        )
        self.bus = MemoryBus(broker, self.own, will=will)
        self.service = Orchestrator(
            OrchestratorSettings(**settings),
            self.loop,
            self.bus,
            self.store,
            kept,
            self.own,
            lost_after=LOST_AFTER_S,
        )
        self.thread = threading.Thread(target=self._run, name="test/orchestrator")
        self.thread.start()

    @property
    def state(self) -> dict[str, Any]:
        raw = self.broker.retained.get(topics.ORCHESTRATOR_STATE.build(SITE))
        return json.loads(raw) if raw else {}

    def leads(self) -> bool:
        return self.state.get("id") == self.own and self.state.get("state") == "ready"

    def _run(self) -> None:
        self.loop.on_finish(self.service.stop)
        self.service.start()
        self.loop.run()

    def stop(self) -> int:
        """As SIGTERM; returns the exit status."""
        self.loop.finish()
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()
        self.bus.close()
        self.store.close()
        return self.loop.status

    def kill(self) -> None:
        """As kill -9: the loop stands still, the will goes out, nothing is said."""
        self.broker.kill(self.own)
        self.loop.stop()
        self.thread.join(PATIENCE_S)
        self.bus.close()
        self.store.close()


class Client:
    """Somebody with an MQTT client: publishes requests, waits for replies, reads what is
    retained."""

    def __init__(self, broker: MemoryBroker, name: str = "ann") -> None:
        self.broker, self.name = broker, name
        self.bus = MemoryBus(broker, name)
        self.seen: list[tuple[str, bytes]] = []
        self._ids = iter(range(1, 10_000))
        self.bus.subscribe(
            f"sat/1/{SITE}/#", lambda inbound: self.seen.append((inbound.topic, inbound.payload))
        )
        self.bus.start()

    def close(self) -> None:
        self.bus.close()

    def orch(self, op: str, *, timeout_ms: int = 8_000, **args: Any) -> dict[str, Any]:
        """A request to the orchestrator, with its reply."""
        return self.ask(topics.ORCHESTRATOR_REQUEST.build(SITE, op=op), args, timeout_ms)

    def set(self, device: str, desired: Any, host: str = "bench") -> dict[str, Any]:
        """Say where a device should be; the reply."""
        topic = topics.SET.build(SITE, host=host, driver=DRIVER, device=device)
        return self.ask(topic, {"level": desired} if isinstance(desired, str) else desired)

    def ask(self, topic: str, args: Any, timeout_ms: int = 8_000) -> dict[str, Any]:
        request_id = f"r{next(self._ids)}"
        reply_to = topics.REPLY.build(SITE, client=self.name, id=request_id)
        body = {
            "args": args,
            "request_id": request_id,
            "timeout_ms": timeout_ms,
            "reply_to": reply_to,
        }
        self.bus.publish(topic, json.dumps(body).encode())
        return self.reply(reply_to)

    def reply(self, topic: str) -> dict[str, Any]:
        return wait_for(lambda: self.replies(topic), f"a reply on {topic}")[0]

    def replies(self, topic: str) -> list[dict[str, Any]]:
        return [
            json.loads(payload) for seen, payload in list(self.seen) if seen == topic and payload
        ]

    def retained(self, topic: topics.Topic, device: str, host: str = "bench") -> Any:
        raw = self.broker.retained.get(topic.build(SITE, host=host, driver=DRIVER, device=device))
        if raw is None or topic is topics.DEVICE_STATE:
            return raw.decode() if raw is not None else None
        return json.loads(raw)

    def row(self, device: str, host: str = "bench") -> dict[str, Any]:
        return self.retained(topics.TABLE_ROW, device, host) or {}

    def wait_state(self, device: str, state: str, timeout: float = PATIENCE_S) -> None:
        wait_for(
            lambda: self.retained(topics.DEVICE_STATE, device) == state,
            f"{device} is {state} (it is {self.retained(topics.DEVICE_STATE, device)})",
            timeout,
        )

    def wait_row(self, device: str, timeout: float = PATIENCE_S, **wanted: Any) -> dict[str, Any]:
        wait_for(
            lambda: all(self.row(device).get(name) == value for name, value in wanted.items()),
            f"the row of {device} says {wanted} (it says {self.row(device)})",
            timeout,
        )
        return self.row(device)
