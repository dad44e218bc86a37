"""The results that replies carry. PURE."""

from __future__ import annotations

from typing import Any

from sat_bus.contract import strict_json
from sat_bus.contract.device_key import Key
from sat_bus.contract.messages import ListArgs, Reply
from sat_orchestrator.fleet import rows
from sat_orchestrator.fleet.fleet import Fleet
from sat_orchestrator.fleet.table import KnownHost, Presence, Row
from sat_toolkit.core.device_spec import DeviceState
from sat_toolkit.errors import SatError

LIST_BYTES = 200_000
_BRIEF = 200


def desired(row: Row) -> dict[str, Any]:
    """Of `set`: what is desired now, where that comes from, and why nothing may come of it."""
    return {
        "desired": row.desired.model_dump(mode="json") if row.desired is not None else None,
        "policy": row.source,
        "held": row.held,
    }


def add_scan(result: dict[str, Any], host: str, reply: Reply) -> None:
    """Of `scan`: add what one host said. `errors` maps ``host`` or ``host/driver`` to a text."""
    if reply.status == "error":
        result["errors"][host] = f"{reply.code}: {reply.message}"
        return
    said = reply.result if isinstance(reply.result, dict) else {}
    for item in said.get("devices") or []:
        if isinstance(item, dict) and item.get("state") != DeviceState.UNKNOWN:
            result["devices"].append({"host": host, **item})
    for driver, text in dict(said.get("errors") or {}).items():
        result["errors"][f"{host}/{driver}"] = str(text)


def listing(fleet: Fleet, wanted: ListArgs) -> dict[str, Any]:
    """Of `list`: ``hosts``, and ``devices``, each its row with what it is. When that is more than a
    reply can carry, the descriptions are left out and `complete` is False; they are retained at
    each device's `meta`."""
    hosts = [
        _host(host) for name, host in sorted(fleet.hosts.items()) if wanted.host in (None, name)
    ]
    keys = [
        key
        for key in sorted(fleet.rows)
        if wanted.host in (None, key.host) and wanted.driver in (None, key.driver)
    ]  # fmt: skip
    for with_meta in (True, False):
        devices = [_device(fleet, key, with_meta=with_meta) for key in keys]
        result = {"hosts": hosts, "devices": devices, "complete": with_meta}
        if len(strict_json.dumps(result)) <= LIST_BYTES:
            break
    return result


def closed(key: Key, reply: Reply) -> dict[str, Any]:
    """Of `cleanup`: what a host said to the close of one device."""
    said = {"code": reply.code, "message": reply.message, "state": reply.state}
    told = {name: value for name, value in said.items() if value is not None}
    return {**key._asdict(), "status": reply.status, **told}


def not_closed(key: Key, error: SatError) -> dict[str, Any]:
    """Of `cleanup`: why one device could not be closed."""
    return {**key._asdict(), "status": "error", "code": error.code, "message": str(error)}


def brief(args: dict[str, Any]) -> str:
    """The args of a request in one short line, for the record."""
    return strict_json.dumps(args).decode()[:_BRIEF]


def _host(host: KnownHost) -> dict[str, Any]:
    birth = host.birth
    return {
        "host": host.name,
        "state": "lost" if host.presence is Presence.GONE else host.word or "unknown",
        "boot": host.boot,
        "reason": host.reason,
        "family": birth.family if birth is not None else None,
        "drivers": [driver.model_dump(mode="json") for driver in birth.drivers]
        if birth is not None
        else [],
    }


def _device(fleet: Fleet, key: Key, *, with_meta: bool) -> dict[str, Any]:
    row = fleet.rows[key]
    shown = rows.table_row(row, fleet.hosts[key.host]).model_dump(mode="json")
    if with_meta and row.meta is not None:
        shown["meta"] = row.meta.model_dump(mode="json")
    return {**key._asdict(), **shown}
