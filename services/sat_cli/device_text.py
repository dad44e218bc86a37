"""What commands and the bench's table say of a device, in the same words."""

from __future__ import annotations

from sat_bus.contract import messages as m
from sat_client import Device


def last_known(device: Device) -> str | None:
    """The state a lost device was in when it was last seen."""
    status = device.status
    if status is None or device.quality != "lost":
        return None
    return (status.last_known or status.state).value


def reason(device: Device) -> str:
    """Why the device is as it is: what its host says, else why the orchestrator holds it, else
    who wants it not to be connected."""
    status, row = device.status, device.row
    said = (status.reason if status else "") or (row.held or row.reason if row else "")
    if (
        said
        or row is None
        or row.policy != m.EXPLICIT
        or row.desired is None
        or row.desired.level == "connected"
    ):
        return said
    return (
        f"somebody wants it {row.desired.level}; `sat set {device.id} auto` gives it back to policy"
    )


def streams_text(status: m.Status | None) -> str:
    """The streams of a device: those that run by name, the others with their state."""
    streams = status.streams if status else {}
    return " ".join(
        kind if s.state == "running" else f"{kind}:{s.state}" for kind, s in sorted(streams.items())
    )
