"""What clients may ask of the orchestrator, and how each request is answered: exactly once, and on
the record.

Each operation is one function that reads from top to bottom. What a client desires is stored before
anything is done for it, so that a failing database refuses instead of forgetting. Whether an
operation is legal is the host's to say; its reason reaches the client as it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, NamedTuple

import structlog

from sat_bus.contract import messages, topics
from sat_bus.contract.device_key import Key
from sat_bus.contract.messages import CleanupArgs, Desired, DeviceArgs, ListArgs, Reply, ScanArgs
from sat_bus.contract.topics import Match
from sat_bus.service.loop import Timer, WorkLoop
from sat_bus.service.request_desk import Accepted, RequestDesk
from sat_bus.service.tasks import Task, gather
from sat_bus.transport.bus import Inbound
from sat_orchestrator.bus import answers
from sat_orchestrator.fleet import lookup, rows
from sat_orchestrator.fleet.fleet import Fleet
from sat_orchestrator.hosts import Hosts, Scanned
from sat_orchestrator.keeper import Keeper
from sat_orchestrator.steering import Steering
from sat_orchestrator.store.database import AuditEntry
from sat_orchestrator.store.store import Store
from sat_toolkit.core.device_spec import DeviceState
from sat_toolkit.core.lifecycle import Operation
from sat_toolkit.errors import (
    BadState,
    Busy,
    Code,
    Expired,
    Indeterminate,
    Internal,
    SatError,
    Timeout,
    UnknownCommand,
    UnknownDevice,
)

_log = structlog.get_logger(__name__)

CAPACITY = 1024
GRACE_S = 1.0
# The host refused it before anything happened: what was desired by it does not hold.
_REFUSED = frozenset({
    Code.BAD_REQUEST, Code.BAD_ARGS, Code.UNKNOWN_DRIVER, Code.UNKNOWN_DEVICE, Code.UNKNOWN_COMMAND,
    Code.BAD_STATE, Code.FENCED, Code.BUSY, Code.EXPIRED, Code.DENIED, Code.QUARANTINED,
})  # fmt: skip
_NOT_THERE = (Code.UNKNOWN_DEVICE, Code.UNKNOWN_DRIVER)
_OPEN_STATES = (
    DeviceState.INITIALIZED,
    DeviceState.CONNECTED,
    DeviceState.ACTIVE,
    DeviceState.ERROR,
)


class _Waiting(NamedTuple):
    """A request that is not answered yet, and what ends it when nothing else does."""

    task: Task
    end: Timer


class Requests:
    """Answers requests on `orch/req/<op>` and on the devices' `set`.

    Args:
        capacity: requests that may be in progress at a time.
    """

    def __init__(
        self,
        loop: WorkLoop,
        desk: RequestDesk,
        fleet: Fleet,
        hosts: Hosts,
        keeper: Keeper,
        steering: Steering,
        store: Store,
        *,
        capacity: int = CAPACITY,
    ) -> None:
        self._loop = loop
        self._desk = desk
        self._fleet = fleet
        self._hosts = hosts
        self._keeper = keeper
        self._steering = steering
        self._store = store
        self._capacity = capacity
        self._waiting: dict[Accepted, _Waiting] = {}
        lifecycle = (Operation.INITIALIZE, Operation.CONNECT, Operation.RESET, Operation.CLOSE)
        self._operations: dict[str, Callable[[Accepted], Coroutine[Any, Any, None]]] = {
            "scan": self._scan,
            **{operation.value: partial(self._lifecycle, operation) for operation in lifecycle},
            "release": self._release,
            "list": self._list,
            "forget": self._forget,
            "cleanup": self._cleanup,
        }

    def __len__(self) -> int:
        return len(self._waiting)

    def handle(self, inbound: Inbound, match: Match) -> None:
        """Answer the request `inbound`."""
        is_set = match.topic is topics.SET
        parser = messages.parse_set_request if is_set else messages.parse_request
        accepted = self._desk.accept(inbound, match, parser=parser, arrived=inbound.arrived)
        if accepted is None:
            return
        task = Task(self._loop, self._run(accepted))
        if not accepted.answered:
            # No request stays without an outcome, whatever happened to the one it waits for.
            late = Timeout("it did not end in time; its effect is unknown")
            end = self._loop.at(accepted.deadline + GRACE_S, partial(task.cancel, late))
            self._waiting[accepted] = _Waiting(task, end)

    def abandon(self) -> None:
        """At the end: whoever waits is told that nobody will know."""
        stopping = "the orchestrator is stopping; the effect of the request is unknown"
        for waiting in list(self._waiting.values()):
            waiting.task.cancel(Indeterminate(stopping))

    async def _run(self, accepted: Accepted) -> None:
        """Answer one request, and put it on the record."""
        try:
            if len(self._waiting) >= self._capacity:
                raise Busy(f"{self._capacity} requests are in progress; try again later")
            await self._operation(accepted)(accepted)
        except SatError as error:
            accepted.fail(error)
        except Exception as error:
            accepted.fail(Internal(f"{type(error).__name__}: {error}"))
            raise
        finally:
            waiting = self._waiting.pop(accepted, None)
            if waiting is not None:
                waiting.end.cancel()
            self._record(accepted)

    def _operation(self, accepted: Accepted) -> Callable[[Accepted], Coroutine[Any, Any, None]]:
        if accepted.match.topic is topics.SET:
            return self._set
        operation = self._operations.get(accepted.operation)
        if operation is None:
            known = ", ".join(sorted(self._operations))
            raise UnknownCommand(
                f"unknown request {accepted.operation!r}; the orchestrator takes: {known}"
            )
        return operation

    def _record(self, accepted: Accepted) -> None:
        """Put what became of a request on the record. A list that was given is not worth it."""
        reply = accepted.outcome
        if reply is None or (accepted.operation == "list" and reply.status == "ok"):
            return
        entry = AuditEntry(
            at=time.time(),
            client=accepted.client,
            operation=accepted.operation,
            target=accepted.target or answers.brief(accepted.request.args),
            outcome=reply.code.value if reply.code is not None else "ok",
            message=reply.message[:500],
        )
        self._store.audit(entry)
        _log.info("request", **{name: value for name, value in vars(entry).items() if name != "at"})

    # -- what is desired ---------------------------------------------------------------------------

    async def _set(self, accepted: Accepted) -> None:
        """Store where a device should be; the planner brings it there."""
        desired = messages.parse_desired(accepted.request)
        levels = accepted.match.levels
        key = Key(levels["host"], levels["driver"], levels["device"])
        row = lookup.row(self._fleet, key)
        lookup.check_boot(self._fleet, key, accepted.request.boot)
        if desired is not None and "streams" not in accepted.request.args:
            streams = rows.policy_streams(row) if desired.level == "connected" else {}
            desired = Desired(level=desired.level, streams=streams)

        await self._keeper.save(key, desired, accept=desired is not None)
        if key not in self._fleet.rows:
            raise UnknownDevice(f"{key} was forgotten meanwhile")

        effects = self._fleet.set_desired(key, desired, accept=desired is not None)
        row = self._fleet.rows[key]
        accepted.ok(answers.desired(row), state=row.observed)
        self._steering.apply(effects)

    # -- lifecycle ---------------------------------------------------------------------------------

    async def _lifecycle(self, operation: Operation, accepted: Accepted) -> None:
        """Initialize, connect, reset or close a device. A connect looks for one that is not known,
        to us or to its host."""
        wanted = messages.parse_args(DeviceArgs, accepted.request)
        finds = operation is Operation.CONNECT
        key = lookup.find(self._fleet.rows, wanted)
        looked = key is None and finds
        if looked:
            key = await self._discover(accepted, wanted)
        elif key is None:
            raise lookup.unknown(self._fleet, wanted)

        reply = await self._operate(accepted, operation, key)
        if reply.code is Code.UNKNOWN_DEVICE and finds and not looked:
            key = await self._discover(accepted, wanted)
            reply = await self._operate(accepted, operation, key)
        accepted.reply(reply)
        self._steering.changed(key)

    async def _discover(self, accepted: Accepted, wanted: DeviceArgs) -> Key:
        """Scan wherever the device could be; the device that is meant.

        Raises:
            UnknownDevice, UnknownDriver, HostLost: it is nowhere.
        """
        hosts = lookup.hosts(self._fleet, wanted.host, wanted.driver)
        answered = await self._scan_all(accepted, hosts, wanted.driver)
        key = lookup.find({key for scanned in answered for key in scanned.found}, wanted)
        if key is None or key not in self._fleet.rows:
            raise lookup.unknown(self._fleet, wanted)
        return key

    async def _operate(self, accepted: Accepted, operation: Operation, key: Key) -> Reply:
        """Store what is desired, ask the device's host, and judge: what it refused is not desired.
        Meanwhile the planner keeps still.

        Raises:
            SatError: the host was not asked.
        """
        row = lookup.row(self._fleet, key)
        lookup.check_reachable(self._fleet, key)
        lookup.check_boot(self._fleet, key, accepted.request.boot)
        desired = rows.desired_behind(operation, row)
        accept = operation is Operation.CONNECT

        self._fleet.client_begins(key)
        try:
            await self._keeper.save(key, desired, accept=accept)
            if accepted.left <= 0:
                raise Expired("the deadline passed before it could start")
            lookup.check_reachable(self._fleet, key)
            reply = await self._hosts.ask(
                key.host,
                operation.value,
                _named(key),
                accepted.left,
                traceparent=accepted.traceparent,
            )
        except Exception:  # whatever it was, the planner has its turn again
            self._fleet.client_ends(key, None, self._loop.now(), failed=True)
            raise

        if reply.code not in _REFUSED and key in self._fleet.rows:
            self._fleet.set_desired(key, desired, accept=accept)
        failed = reply.status == "error"
        self._fleet.client_ends(key, reply.state, self._loop.now(), failed=failed)
        return reply

    async def _release(self, accepted: Accepted) -> None:
        """End a device's quarantine; what is desired of it then takes its course."""
        wanted = messages.parse_args(DeviceArgs, accepted.request)
        key = lookup.known(self._fleet, wanted)
        lookup.check_reachable(self._fleet, key)
        reply = await self._hosts.ask(key.host, "release", _named(key), accepted.left)
        accepted.reply(reply)
        if reply.status == "ok" and key in self._fleet.rows:
            self._steering.apply(self._fleet.release(key))

    # -- scan, list, forget, cleanup ---------------------------------------------------------------

    async def _scan(self, accepted: Accepted) -> None:
        """Have hosts look for devices; say what each has found."""
        wanted = messages.parse_args(ScanArgs, accepted.request)
        hosts = lookup.hosts(self._fleet, wanted.host, wanted.driver)
        if wanted.driver is not None and not hosts:
            raise lookup.unknown_driver(self._fleet, wanted.driver)
        result: dict[str, Any] = {"devices": [], "errors": {}}
        for scanned in await self._scan_all(accepted, hosts, wanted.driver):
            answers.add_scan(result, scanned.host, scanned.reply)
        accepted.ok(result)

    async def _list(self, accepted: Accepted) -> None:
        """Say what is known of hosts and devices."""
        wanted = messages.parse_args(ListArgs, accepted.request)
        accepted.ok(answers.listing(self._fleet, wanted))

    async def _forget(self, accepted: Accepted) -> None:
        """Drop a device that is gone, here and at its host."""
        wanted = messages.parse_args(DeviceArgs, accepted.request)
        key = lookup.known(self._fleet, wanted)
        row = self._fleet.rows[key]
        if row.quality == "good" and row.observed is not DeviceState.UNKNOWN:
            raise BadState(f"{key} is present ({row.observed}); only what is gone can be forgotten")

        relic = True  # of a host that is gone, or of its earlier boot: it clears nothing itself
        if lookup.why_lost(self._fleet, key) is None:
            reply = await self._hosts.ask(key.host, "forget", _named(key), accepted.left)
            relic = reply.code in _NOT_THERE
            if reply.status == "error" and not relic:
                accepted.reply(reply)
                return

        self._steering.forget(key, device=relic)
        self._keeper.forget(key)
        accepted.ok({"forgotten": str(key)})

    async def _cleanup(self, accepted: Accepted) -> None:
        """Close the devices that are named, or all that are open; say what became of each."""
        wanted = messages.parse_args(CleanupArgs, accepted.request)
        if wanted.devices is None:
            keys = [key for key, row in self._fleet.rows.items() if row.observed in _OPEN_STATES]
        else:
            named = [DeviceArgs(device=name) for name in wanted.devices]
            keys = list(dict.fromkeys(lookup.known(self._fleet, each) for each in named))
        closing = [self._close(accepted, key) for key in keys]
        accepted.ok({"devices": await gather(self._loop, closing)})

    async def _close(self, accepted: Accepted, key: Key) -> dict[str, Any]:
        try:
            told = answers.closed(key, await self._operate(accepted, Operation.CLOSE, key))
        except SatError as error:
            told = answers.not_closed(key, error)
        self._steering.changed(key)
        return told

    async def _scan_all(
        self, accepted: Accepted, hosts: list[str], driver: str | None
    ) -> list[Scanned]:
        left = max(0.001, accepted.left)
        return await gather(self._loop, [self._hosts.scan(host, driver, left) for host in hosts])


def _named(key: Key) -> dict[str, Any]:
    return {"driver": key.driver, "device": key.device}
