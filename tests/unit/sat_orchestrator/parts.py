"""The parts of an orchestrator put together by hand: a clock that the test moves, a bus that keeps
what is published, a store that writes nothing. The test speaks for hosts and clients."""

from __future__ import annotations

import itertools
import json
from typing import Any, cast

from sat_bus.contract import messages as m
from sat_bus.contract import topics
from sat_bus.contract.device_key import Key
from sat_bus.service.loop import WorkLoop
from sat_bus.service.request_desk import RequestDesk
from sat_bus.service.tasks import Promise
from sat_bus.transport.bus import Inbound
from sat_orchestrator.bus.host_calls import HostCalls
from sat_orchestrator.bus.publisher import TablePublisher
from sat_orchestrator.fleet.fleet import Fleet
from sat_orchestrator.fleet.leadership import Leadership
from sat_orchestrator.fleet.policy import PolicyRule
from sat_orchestrator.fleet.table import Record, Row
from sat_orchestrator.hosts import Hosts
from sat_orchestrator.keeper import Keeper
from sat_orchestrator.lead import Lead
from sat_orchestrator.requests import Requests
from sat_orchestrator.steering import Steering
from sat_orchestrator.store.database import AuditEntry
from sat_toolkit.core.device_spec import DeviceState
from tests.unit.fake_bus import FakeBus, Published

SITE, HOST, DRIVER, OWN = "lab", "bench", "drv_x", "orchestrator-1-aa"
OLD_BOOT, BOOT, NEW_BOOT = "1000-aa", "2000-bb", "3000-cc"
KEY = Key(HOST, DRIVER, "can0")
S = DeviceState
CONNECT = [PolicyRule(level="connected", streams={"can": {"fd": True}}, name="all")]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class FakeStore:
    """A store that writes nothing. `failure` is why writes fail; while `slow`, they wait for
    `settle`."""

    def __init__(self) -> None:
        self.failure = ""
        self.slow = False
        self.saved: list[Record] = []
        self.epochs: list[int] = []
        self.deleted: list[Key] = []
        self.seen: list[tuple[Key, DeviceState, int]] = []
        self.record: list[AuditEntry] = []
        self.closed = False
        self._open: list[Promise[str]] = []

    def save(self, record: Record) -> Promise[str]:
        self.saved.append(record)
        return self._outcome()

    def save_epoch(self, epoch: int) -> Promise[str]:
        self.epochs.append(epoch)
        return self._outcome()

    def delete(self, key: Key) -> Promise[str]:
        self.deleted.append(key)
        return self._outcome()

    def observed(self, key: Key, state: DeviceState, rev: int) -> None:
        self.seen.append((key, state, rev))

    def audit(self, entry: AuditEntry) -> None:
        self.record.append(entry)

    @property
    def waiting(self) -> int:
        return len(self._open)

    def counts(self) -> dict[str, int]:
        return {"desired_failed": 1}

    def close(self) -> None:
        self.closed = True

    def settle(self, failure: str = "") -> None:
        """What waits is over."""
        waiting, self._open = self._open, []
        for promise in waiting:
            promise.set_result(failure)

    def _outcome(self) -> Promise[str]:
        promise: Promise[str] = Promise()
        if self.slow:
            self._open.append(promise)
        else:
            promise.set_result(self.failure)
        return promise


def turn(loop: WorkLoop) -> None:
    """Run what is due on a loop that nobody else runs."""
    reached: list[bool] = []
    assert loop.post(lambda: reached.append(True))  # timers that are due run before jobs
    assert loop.run_until(lambda: bool(reached), 5.0)


class Parts:
    """An orchestrator that leads, without its subscriptions."""

    def __init__(
        self,
        rules: list[PolicyRule] | None = None,
        *,
        leading: bool = True,
        max_requests: int = 1024,
        max_calls: int = 4096,
        **fleet: Any,
    ) -> None:
        self.clock = Clock()
        self.loop = WorkLoop("test", clock=self.clock)
        self.bus = FakeBus()
        self.store: Any = cast(Any, FakeStore())
        self.fleet = Fleet(rules or [], lambda: 0.5, scan_period=3600.0, **fleet)
        self.leadership = Leadership(OWN, 3)
        self.lead = Lead(SITE, self.bus, self.store, self.leadership)
        self.calls = HostCalls(SITE, OWN, self.bus, self.leadership, self.loop, capacity=max_calls)
        self.publisher = TablePublisher(SITE, self.bus, self.fleet, self.loop)
        self.hosts = Hosts(self.loop, self.fleet, self.calls, self.lead)
        self.keeper = Keeper(self.loop, self.fleet, self.store)
        self.steering = Steering(self.loop, self.fleet, self.hosts, self.publisher, self.lead)
        self.desk = RequestDesk(
            SITE, "orchestrator", OWN, self.bus, self.clock, own_boot_only=False
        )
        self.requests = Requests(
            self.loop, self.desk, self.fleet, self.hosts, self.keeper, self.steering, self.store,
            capacity=max_requests,
        )  # fmt: skip
        self._ids = itertools.count(1)
        self._answered: set[str] = set()
        self.rev = 0
        if leading:
            self.leadership.claim()
            self.lead.leading = self.steering.connected = True

    @property
    def row(self) -> Row:
        return self.fleet.rows[KEY]

    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds
        turn(self.loop)

    # -- what a host says --------------------------------------------------------------------------

    def host_up(self, name: str = HOST, boot: str = BOOT, **more: Any) -> None:
        """A host is there, and has done what it is asked at first."""
        birth = m.Birth(
            boot=boot, family="can", drivers=[m.DriverInfo(name=DRIVER)],
            manifest=m.Manifest(count=0, rev=0), epoch_seen=0, version="0", clock=0.0,
        )  # fmt: skip
        now = self.clock.now
        self.steering.apply(self.fleet.birth(name, birth, now, retained=False))
        ready = m.HostState(state="ready", boot=boot)
        self.steering.apply(self.fleet.host_state(name, ready, now, retained=False))
        self.beat(name, boot)
        for scan in self.asked("scan"):
            self.answer(scan, {"devices": [], "errors": {}})

    def beat(self, name: str = HOST, boot: str = BOOT) -> None:
        beat = m.Heartbeat(boot=boot, n=1, mono_ms=1)
        self.steering.apply(self.fleet.heartbeat(name, beat, self.clock.now))

    def host_gone(self, name: str = HOST, boot: str = BOOT) -> None:
        away = m.HostState(state="offline", boot=boot)
        self.steering.apply(self.fleet.host_state(name, away, self.clock.now, retained=False))

    def device(self, state: DeviceState = S.DISCOVERED, key: Key = KEY, **status: Any) -> None:
        """The host tells of a device."""
        meta = m.Meta(name=key.device, device_type="CAN", streams=["can"])
        self.steering.apply(self.fleet.meta(key, meta, self.clock.now))
        self.status(state, key, **status)

    def status(self, state: DeviceState, key: Key = KEY, **fields: Any) -> None:
        self.rev += 1
        values = {"previous": S.UNKNOWN, "since": 0.0, "rev": self.rev, "boot": BOOT, "by": "host"}
        status = m.Status(**{"state": state, **values, **fields})
        self.steering.apply(self.fleet.status(key, status, self.clock.now, retained=False))

    # -- what hosts are asked ----------------------------------------------------------------------

    def asked(self, operation: str = "", host: str = "") -> list[Published]:
        """Requests to hosts that are not answered yet."""
        found = []
        for sent in self.bus.sent:
            match = topics.parse(SITE, sent.topic)
            if match is None or match.topic is not topics.HOST_REQUEST:
                continue
            levels = match.levels
            wanted = operation in ("", levels["op"]) and host in ("", levels["host"])
            if wanted and sent.body["request_id"] not in self._answered:
                found.append(sent)
        return found

    def the(self, operation: str, host: str = "") -> Published:
        """The one request to a host that is not answered yet."""
        (request,) = self.asked(operation, host)
        return request

    def answer(self, request: Published, result: Any = None, **fields: Any) -> None:
        """The host answers."""
        reply = m.Reply(
            **{
                "request_id": request.body["request_id"], "status": "ok", "result": result,
                "host": request.topic.split("/")[4], "boot": BOOT, **fields,
            }
        )  # fmt: skip
        self.hear(request, reply.encode())

    def refuse(self, request: Published, code: str, message: str = "no", **fields: Any) -> None:
        self.answer(request, status="error", code=code, message=message, **fields)

    def hear(self, request: Published, payload: bytes, *, retain: bool = False) -> None:
        """Something comes where the reply to `request` is awaited."""
        request_id = request.body["request_id"]
        self._answered.add(request_id)
        self.calls.replied(request_id, Inbound(request.body["reply_to"], payload, retain))

    # -- what clients ask --------------------------------------------------------------------------

    def ask(self, operation: str, /, _ms: int = 8_000, _more: Any = (), **args: Any) -> str:
        """A client's request; the topic of its reply."""
        topic = topics.ORCHESTRATOR_REQUEST.build(SITE, op=operation, client="ann")
        return self.request(topic, args, _ms, **dict(_more))

    def set(self, desired: Any, key: Key = KEY, **more: Any) -> str:
        args = {"level": desired} if isinstance(desired, str) else desired
        return self.request(topics.SET.build(SITE, **key._asdict(), client="ann"), args, **more)

    def request(self, topic: str, args: Any, timeout_ms: int = 8_000, **more: Any) -> str:
        request_id = f"r{next(self._ids)}"
        reply_to = topics.REPLY.build(SITE, client="ann", id=request_id)
        body = {
            "args": args, "request_id": request_id, "timeout_ms": timeout_ms, "reply_to": reply_to, **more,
        }  # fmt: skip
        match = topics.parse(SITE, topic)
        assert match is not None
        inbound = Inbound(topic, json.dumps(body).encode(), arrived=self.clock.now)
        self.requests.handle(inbound, match)
        return reply_to

    def replies(self, topic: str) -> list[dict[str, Any]]:
        return [sent.body for sent in self.bus.sent if sent.topic == topic]

    def reply(self, topic: str) -> dict[str, Any]:
        """The one reply."""
        (reply,) = self.replies(topic)
        return reply

    def table(self, key: Key = KEY) -> dict[str, Any]:
        """The row as the bus shows it, once its turn has come."""
        self.clock.now += 0.2
        self.publisher.flush()
        payload = self.bus.retained(topics.TABLE_ROW.build(SITE, **key._asdict()))
        return json.loads(payload) if payload else {}
