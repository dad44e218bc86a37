"""What follows from a row: what is observed, what clients desire by acting, and how the bus shows
it. PURE."""

from __future__ import annotations

from typing import Any

from sat_bus.contract.messages import Desired, Meta, Quality, Status, TableRow
from sat_orchestrator.fleet.planner import View
from sat_orchestrator.fleet.table import NOT_CLIENTS, KnownHost, Presence, Record, Row
from sat_toolkit.core.device_spec import DeviceState
from sat_toolkit.core.lifecycle import Operation


def refresh(row: Row, host: KnownHost) -> bool:
    """Bring `observed`, `quality` and `last_known` up to date; whether one of them changed."""
    seen = observe(row, host)
    changed = seen != (row.observed, row.quality, row.last_known)
    row.observed, row.quality, row.last_known = seen
    return changed


def observe(row: Row, host: KnownHost) -> tuple[DeviceState, Quality, DeviceState | None]:
    """State, quality and last known state, as `status` and the host's presence give them. Nothing
    is validated: what a host says of its device is so."""
    status = row.status
    if status is None:
        return DeviceState.UNKNOWN, "lost", _known(row.observed) or row.last_known
    if current(row, host) and host.presence is not Presence.GONE:
        return status.state, "good", None
    last = status.last_known if status.quality == "lost" else status.state
    return DeviceState.UNKNOWN, "lost", _known(last) or row.last_known


def current(row: Row, host: KnownHost) -> bool:
    """Whether the row's status is of the host's present boot, and the host's own word."""
    status = row.status
    return status is not None and status.quality == "good" and host.boot in ("", status.boot)


def view(row: Row, host: KnownHost) -> View:
    """The row as the planner weighs it."""
    status = row.status
    streams = status.streams if status is not None else {}
    return View(
        observed=row.observed,
        desired=row.desired,
        certain=host.ready and row.quality == "good" and row.meta is not None and bool(host.boot),
        held=row.held,
        stopped=row.stopped,
        busy=row.in_flight is not None or row.clients > 0,
        not_before=max(row.not_before, row.client_until, row.settle_until),
        running=[name for name, stream in streams.items() if stream.state == "running"],
        acquiring=status.acquiring if status is not None else False,
        declared=row.meta.streams if row.meta is not None else (),
    )


def learn_streams(row: Row, status: Status) -> None:
    """Take the starts and stops of clients into what is desired.

    The retained status names who started or stopped each stream last, so that nothing is missed
    while the orchestrator is away; `streams_seen` keeps what has been taken into account, as a
    later `set` outweighs it.
    """
    for name, stream in status.streams.items():
        mark = f"{stream.stream}/{stream.state}/{stream.by}"[:200]
        if row.streams_seen.get(name) == mark:
            continue
        row.streams_seen[name] = mark
        desired = row.desired
        if stream.by in NOT_CLIENTS or desired is None:
            continue
        streams = dict(desired.streams)
        if stream.state == "running":
            streams[name] = stream.args
        else:
            streams.pop(name, None)
        if streams != desired.streams:
            row.explicit = Desired(level=desired.level, streams=streams)


def desired_behind(operation: Operation, row: Row) -> Desired:
    """What a client wants who asks for `operation`."""
    if operation is Operation.INITIALIZE:
        return Desired(level="initialized")
    if operation is not Operation.CONNECT:
        return Desired(level="disconnected")
    present = row.desired
    if present is not None and present.level == "connected":
        return present
    return Desired(level="connected", streams=policy_streams(row))


def policy_streams(row: Row) -> dict[str, dict[str, Any]]:
    """The streams that go with level connected where the client names none: the rule's."""
    return row.policy.streams if row.policy is not None else {}


def foreign_identity(row: Row, meta: Meta) -> str:
    """Why the device is held: another hardware answers to its name. Empty when it is the one that
    is known."""
    if not meta.hardware_id or not row.hardware_id or meta.hardware_id == row.hardware_id:
        return ""
    return (
        f"hardware {meta.hardware_id} answers to a name that belongs to {row.hardware_id}; "
        "set or connect the device to accept it"
    )


def table_row(row: Row, host: KnownHost) -> TableRow:
    """The row as `orch/table` shows it."""
    status = row.status
    if row.quality == "lost":
        reason = host.reason or "not reported by its host"
    else:
        reason = row.stopped or (status.reason if status is not None else "")
    return TableRow(
        observed=row.observed,
        desired=row.desired,
        quality=row.quality,
        policy=row.source,
        rev=status.rev if status is not None else 0,
        hardware_id=row.hardware_id,
        last_known=row.last_known,
        reason=reason,
        held=row.held,
        attempts=row.attempts,
    )


def lost_status(row: Row, host: KnownHost, at: float) -> Status:
    """The status to write in the stead of a host that is gone, with its boot and rev.

    Args:
        at: now, in seconds since the Unix epoch.
    """
    status = row.status
    return Status(
        state=DeviceState.UNKNOWN,
        previous=row.last_known or DeviceState.UNKNOWN,
        since=at,
        rev=status.rev if status is not None else 0,
        boot=host.boot or (status.boot if status is not None else ""),
        by="orchestrator",
        reason=f"host {host.name} is lost: {host.reason}",
        operation="",
        quality="lost",
        last_known=row.last_known,
    )


def record(row: Row) -> Record:
    """The row as the database keeps it."""
    return Record(
        key=row.key,
        hardware_id=row.hardware_id,
        explicit=row.explicit,
        streams_seen=dict(row.streams_seen),
        observed=row.observed if row.quality == "good" else row.last_known or DeviceState.UNKNOWN,
        rev=row.status.rev if row.status is not None else 0,
    )


def _known(state: DeviceState | None) -> DeviceState | None:
    return None if state is DeviceState.UNKNOWN else state
