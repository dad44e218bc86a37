"""What clients may ask of the orchestrator, and how each request is answered: exactly once, and on
the record.

What a client desires is stored before anything is done for it, so that a failing database refuses
instead of forgetting. Whether an operation is legal is the host's to say; its reason reaches the
client as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import structlog

from sat_bus.contract import device_key, messages, topics
from sat_bus.contract.device_key import Key
from sat_bus.contract.messages import CleanupArgs, Desired, DeviceArgs, ListArgs, Reply, ScanArgs
from sat_bus.contract.topics import Match
from sat_bus.service.request_desk import Accepted, RequestDesk
from sat_bus.transport.bus import Inbound
from sat_orchestrator.bus import answers
from sat_orchestrator.fleet import rows
from sat_orchestrator.fleet.table import Row
from sat_orchestrator.steering import Core
from sat_orchestrator.store.database import AuditEntry
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
    UnknownDriver,
)

_log = structlog.get_logger(__name__)

CAPACITY = 1024
GRACE_S = 1.0
# The host refused it before anything happened: what it desires does not hold.
_REFUSED = frozenset({
    Code.BAD_REQUEST, Code.BAD_ARGS, Code.UNKNOWN_DRIVER, Code.UNKNOWN_DEVICE, Code.UNKNOWN_COMMAND,
    Code.BAD_STATE, Code.FENCED, Code.BUSY, Code.EXPIRED, Code.DENIED, Code.QUARANTINED,
})  # fmt: skip
_OPEN_STATES = (
    DeviceState.INITIALIZED,
    DeviceState.CONNECTED,
    DeviceState.ACTIVE,
    DeviceState.ERROR,
)

Finished = Callable[[Reply], None]


class Operations:
    """Answers requests on `orch/req/<op>` and on the devices' `set`."""

    def __init__(self, core: Core, desk: RequestDesk) -> None:
        self._core = core
        self._desk = desk
        self._open: list[Accepted] = []
        lifecycle = (Operation.INITIALIZE, Operation.CONNECT, Operation.RESET, Operation.CLOSE)
        self._operations: dict[str, Callable[[Accepted], None]] = {
            "scan": self._scan,
            **{operation.value: partial(self._lifecycle, operation) for operation in lifecycle},
            "release": self._release,
            "list": self._list,
            "forget": self._forget,
            "cleanup": self._cleanup,
        }

    def __len__(self) -> int:
        return len(self._open)

    def handle(self, inbound: Inbound, match: Match, arrived: float) -> None:
        """Answer the request `inbound`, which came at `arrived` on the monotonic clock."""
        is_set = match.topic is topics.SET
        parser = messages.parse_set_request if is_set else messages.parse_request
        accepted = self._desk.accept(inbound, match, parser=parser, arrived=arrived)
        if accepted is None:
            return
        try:
            if len(self._open) >= CAPACITY:
                raise Busy(f"{CAPACITY} requests are in progress; try again later")
            self._open.append(accepted)
            self._set(accepted) if is_set else self._dispatch(accepted)
        except SatError as error:
            self._fail(accepted, error)
        except Exception as error:
            self._fail(accepted, Internal(f"{type(error).__name__}: {error}"))
            raise

    def sweep(self) -> None:
        """Once a second: no request stays without an outcome, whatever happened to the one it waits
        for."""
        late = self._core.clock() - GRACE_S
        for accepted in self._open:
            if late >= accepted.deadline:
                self._fail(accepted, Timeout("it did not end in time; its effect is unknown"))
        self._open = [accepted for accepted in self._open if not accepted.answered]

    def abandon(self) -> None:
        """At the end: whoever waits is told that nobody will know."""
        for accepted in self._open:
            self._fail(
                accepted,
                Indeterminate("the orchestrator is stopping; the effect of the request is unknown"),
            )
        self._open.clear()

    def _dispatch(self, accepted: Accepted) -> None:
        name = accepted.match.levels["op"]
        operation = self._operations.get(name)
        if operation is None:
            known = ", ".join(sorted(self._operations))
            raise UnknownCommand(f"unknown request {name!r}; the orchestrator takes: {known}")
        operation(accepted)

    # -- what is desired ------------------------------------------------------------------------------------

    def _set(self, accepted: Accepted) -> None:
        desired = messages.parse_desired(accepted.request)
        levels = accepted.match.levels
        key = Key(levels["host"], levels["driver"], levels["device"])
        row = self._row(key)
        self._check_boot(accepted, key)
        if desired is not None and "streams" not in accepted.request.args:
            desired = Desired(
                level=desired.level,
                streams=rows.policy_streams(row) if desired.level == "connected" else {},
            )

        def stored(failure: str) -> None:
            if failure:
                self._fail(accepted, Internal(f"what is desired could not be stored: {failure}"))
                return
            if key not in self._core.fleet.rows:
                self._fail(accepted, UnknownDevice(f"{key} was forgotten meanwhile"))
                return
            effects = self._core.fleet.set_desired(key, desired, accept=desired is not None)
            reply = messages.ok(
                accepted.request,
                host=self._desk.host,
                boot=self._desk.boot,
                result=answers.desired(row),
                state=row.observed,
            )
            self._reply(accepted, reply)
            self._core.apply(effects)

        self._core.save_desired(key, desired, accept=desired is not None, done=stored)

    # -- lifecycle ---------------------------------------------------------------------------------

    def _lifecycle(self, operation: Operation, accepted: Accepted) -> None:
        wanted = messages.parse_args(DeviceArgs, accepted.request)
        key = self._find(self._core.fleet.rows, wanted)
        finished = partial(self._reply, accepted)
        if key is not None:
            self._operate(accepted, operation, key, finished, wanted)
        elif operation is Operation.CONNECT:
            self._discover(accepted, wanted, finished)
        else:
            raise self._unknown(wanted)

    def _discover(self, accepted: Accepted, wanted: DeviceArgs, finished: Finished) -> None:
        """Scan wherever the device could be, then connect it."""
        hosts = self._hosts(wanted.host, wanted.driver)
        if not hosts:
            raise self._unknown(wanted)
        found: set[Key] = set()

        def all_scanned() -> None:
            try:
                key = self._find(found, wanted)
                if key is None or key not in self._core.fleet.rows:
                    raise self._unknown(wanted)
                self._operate(accepted, Operation.CONNECT, key, finished)
            except SatError as error:
                finished(self._error(accepted, error))

        self._scan_all(
            accepted,
            hosts,
            wanted.driver,
            lambda host, reply, keys: found.update(keys),
            all_scanned,
        )

    def _operate(
        self,
        accepted: Accepted,
        operation: Operation,
        key: Key,
        finished: Finished,
        wanted: DeviceArgs | None = None,
    ) -> None:
        """Store the desired, then ask the host; `finished` gets the outcome.

        Args:
            wanted: how the client named it; a host that does not know the device then scans for it.

        Raises:
            HostLost, Expired: nobody can be asked.
        """
        core = self._core
        row = self._row(key)
        if (error := core.host_error(key)) is not None:
            raise error
        self._check_boot(accepted, key)
        desired = rows.desired_behind(operation, row)
        accept = operation is Operation.CONNECT

        def end(reply: Reply, *, refused: bool) -> None:
            effects = (
                []
                if refused or key not in core.fleet.rows
                else core.fleet.set_desired(key, desired, accept=accept)
            )
            failed = reply.status == "error"
            effects += core.fleet.client_ends(key, reply.state, core.clock(), failed=failed)
            finished(reply)
            core.apply(effects)

        def replied(reply: Reply) -> None:
            if reply.code is Code.UNKNOWN_DEVICE and accept and wanted is not None:
                core.apply(core.fleet.client_ends(key, None, core.clock(), failed=False))
                try:
                    self._discover(accepted, wanted, finished)
                except SatError as error:
                    finished(self._error(accepted, error))
            else:
                end(reply, refused=reply.code in _REFUSED)

        def stored(failure: str) -> None:
            if failure:
                end(
                    self._error(
                        accepted, Internal(f"what is desired could not be stored: {failure}")
                    ),
                    refused=True,
                )
            elif (left := accepted.deadline - core.clock()) <= 0:
                end(
                    self._error(accepted, Expired("the deadline passed before it could start")),
                    refused=True,
                )
            elif (gone := core.host_error(key)) is not None:
                end(self._error(accepted, gone), refused=True)
            else:
                args = {"driver": key.driver, "device": key.device}
                core.call(
                    key.host, operation.value, args, left, replied, traceparent=accepted.traceparent
                )

        core.fleet.client_begins(key)
        core.save_desired(key, desired, accept=accept, done=stored)

    def _release(self, accepted: Accepted) -> None:
        """End a device's quarantine; what is desired of it then takes its course."""
        core = self._core
        wanted = messages.parse_args(DeviceArgs, accepted.request)
        key = self._find(core.fleet.rows, wanted)
        if key is None:
            raise self._unknown(wanted)
        if (error := core.host_error(key)) is not None:
            raise error

        def replied(reply: Reply) -> None:
            self._reply(accepted, reply)
            if reply.status == "ok" and key in core.fleet.rows:
                core.apply(core.fleet.release(key))

        left = accepted.deadline - core.clock()
        core.call(key.host, "release", {"driver": key.driver, "device": key.device}, left, replied)

    # -- scan, list, forget, cleanup ---------------------------------------------------------------

    def _scan(self, accepted: Accepted) -> None:
        wanted = messages.parse_args(ScanArgs, accepted.request)
        hosts = self._hosts(wanted.host, wanted.driver)
        if wanted.driver is not None and not hosts:
            raise self._unknown_driver(wanted.driver)
        result: dict[str, Any] = {"devices": [], "errors": {}}

        def scanned(host: str, reply: Reply, _found: list[Key]) -> None:
            answers.add_scan(result, host, reply)

        self._scan_all(accepted, hosts, wanted.driver, scanned, lambda: self._ok(accepted, result))

    def _list(self, accepted: Accepted) -> None:
        wanted = messages.parse_args(ListArgs, accepted.request)
        result = answers.listing(self._core.fleet, wanted)
        accepted.ok(result)

    def _forget(self, accepted: Accepted) -> None:
        wanted = messages.parse_args(DeviceArgs, accepted.request)
        key = self._find(self._core.fleet.rows, wanted)
        if key is None:
            raise self._unknown(wanted)
        row = self._row(key)
        if row.quality == "good" and row.observed is not DeviceState.UNKNOWN:
            raise BadState(f"{key} is present ({row.observed}); only what is gone can be forgotten")

        def forgotten(*, device: bool) -> None:
            self._core.forget(key, device=device)
            self._ok(accepted, {"forgotten": str(key)})

        def replied(reply: Reply) -> None:
            if reply.status == "ok":
                forgotten(device=False)
            elif reply.code is Code.UNKNOWN_DEVICE or reply.code is Code.UNKNOWN_DRIVER:
                forgotten(device=True)  # a relic of an earlier boot
            else:
                self._reply(accepted, reply)

        if self._core.host_error(key) is not None:
            forgotten(device=True)
        else:
            left = accepted.deadline - self._core.clock()
            self._core.call(
                key.host, "forget", {"driver": key.driver, "device": key.device}, left, replied
            )

    def _cleanup(self, accepted: Accepted) -> None:
        wanted = messages.parse_args(CleanupArgs, accepted.request)
        table = self._core.fleet.rows
        if wanted.devices is None:
            keys = [key for key, row in table.items() if row.observed in _OPEN_STATES]
        else:
            keys = []
            for text in wanted.devices:
                args = DeviceArgs(device=text)
                key = self._find(table, args)
                if key is None:
                    raise self._unknown(args)
                keys.append(key)
        outcomes: dict[Key, Reply] = {}
        waiting = set(keys)

        def closed(key: Key, reply: Reply) -> None:
            outcomes[key] = reply
            waiting.discard(key)
            if not waiting:
                self._ok(
                    accepted,
                    {
                        "devices": [
                            answers.closed(each, outcomes[each]) for each in dict.fromkeys(keys)
                        ]
                    },
                )

        if not keys:
            self._ok(accepted, {"devices": []})
        for key in list(waiting):
            try:
                self._operate(accepted, Operation.CLOSE, key, partial(closed, key))
            except SatError as error:
                closed(key, self._error(accepted, error))

    # -- shared ------------------------------------------------------------------------------------

    def _scan_all(
        self,
        accepted: Accepted,
        hosts: list[str],
        driver: str | None,
        each: Callable[[str, Reply, list[Key]], None],
        done: Callable[[], None],
    ) -> None:
        waiting = set(hosts)

        def scanned(host: str, reply: Reply, found: list[Key]) -> None:
            each(host, reply, found)
            waiting.discard(host)
            if not waiting:
                done()

        if not hosts:
            done()
        left = max(0.001, accepted.deadline - self._core.clock())
        for host in hosts:
            self._core.scan(host, driver, left, partial(scanned, host))

    def _hosts(self, name: str | None, driver: str | None) -> list[str]:
        """The hosts that can be asked to scan: all that are there, or the one of this name.

        Raises:
            UnknownDevice, HostLost: there is none of this name, or it is gone.
        """
        known = self._core.fleet.hosts
        if name is not None:
            host = known.get(name)
            if host is None:
                raise UnknownDevice(
                    f"host {name} is not known; known are {', '.join(sorted(known)) or 'none'}"
                )
            answers.check_askable(host)
        askable = [host for host in known.values() if name in (None, host.name) and host.askable]
        return [host.name for host in askable if driver is None or driver in host.drivers]

    def _row(self, key: Key) -> Row:
        row = self._core.fleet.rows.get(key)
        if row is None:
            raise self._unknown(
                DeviceArgs.model_construct(host=key.host, driver=key.driver, device=key.device)
            )
        return row

    @staticmethod
    def _find(keys: Iterable[Key], wanted: DeviceArgs) -> Key | None:
        return device_key.find(keys, wanted.device, host=wanted.host, driver=wanted.driver)

    def _unknown(self, wanted: DeviceArgs) -> SatError:
        if wanted.driver is not None and wanted.driver not in self._drivers():
            return self._unknown_driver(wanted.driver)
        return device_key.unknown(
            self._core.fleet.rows, wanted.device, host=wanted.host, driver=wanted.driver
        )

    def _unknown_driver(self, driver: str) -> UnknownDriver:
        known = ", ".join(sorted(self._drivers())) or "none; no host is there"
        return UnknownDriver(f"Driver {driver} not found; known are {known}")

    def _drivers(self) -> set[str]:
        fleet = self._core.fleet
        return {name for host in fleet.hosts.values() for name in host.drivers} | {
            key.driver for key in fleet.rows
        }

    def _check_boot(self, accepted: Accepted, key: Key) -> None:
        boot, present = accepted.request.boot, self._core.fleet.hosts[key.host].boot
        if boot is not None and boot != present:
            raise Expired(
                f"meant for boot {boot[:80]} of host {key.host}; the present one is {present or 'unknown'}"
            )

    def _error(self, accepted: Accepted, error: SatError) -> Reply:
        return messages.failed(
            accepted.request.request_id, error, host=self._desk.host, boot=self._desk.boot
        )

    def _ok(self, accepted: Accepted, result: Any) -> None:
        reply = messages.ok(
            accepted.request, host=self._desk.host, boot=self._desk.boot, result=result
        )
        self._reply(accepted, reply)

    def _fail(self, accepted: Accepted, error: SatError) -> None:
        self._reply(accepted, self._error(accepted, error))

    def _reply(self, accepted: Accepted, reply: Reply) -> None:
        """Answer with what a host said or we say, and put it on the record."""
        if not accepted.reply(reply.model_copy(update={"request_id": accepted.request.request_id})):
            return
        levels = accepted.match.levels
        target = "/".join(levels[name] for name in ("host", "driver", "device") if name in levels)
        entry = AuditEntry(
            at=self._core.wall(),
            client=accepted.client,
            operation=levels.get("op", "set"),
            target=target or answers.brief(accepted.request.args),
            outcome=reply.code.value if reply.code is not None else "ok",
            message=reply.message[:500],
        )
        self._core.store.audit(entry)
        _log.info("request", **{name: value for name, value in vars(entry).items() if name != "at"})
