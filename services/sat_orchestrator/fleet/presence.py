"""What a host that is there has to be asked for, and what the bus must not say of one that is gone.
PURE."""

from __future__ import annotations

from collections.abc import Sequence

from sat_orchestrator.fleet import rows
from sat_orchestrator.fleet.effects import Effect, Resync, ScanWanted, WriteLost
from sat_orchestrator.fleet.table import KnownHost, Presence, Row

REWRITE_AFTER_S = 1.0
RESYNC_AFTER_S = 1.0
RESYNC_MAX_S = 30.0


def due(host: KnownHost, own: Sequence[Row], now: float, scan_period: float) -> list[Effect]:
    """What a living host is to do now: scan, or tell again what is missing.

    Args:
        own: the host's rows.
        scan_period: seconds between its scans.
    """
    if host.presence is not Presence.ALIVE:
        return []
    effects: list[Effect] = []
    if host.ready and now >= host.scan_at:
        host.scan_at = now + scan_period
        effects.append(ScanWanted(host.name))
    missing = missing_truth(host, own)
    if not missing:
        be_patient(host, now)
    elif now >= host.resync_at:
        host.resyncs += 1
        host.resync_at = now + min(RESYNC_MAX_S, 2.0 ** min(host.resyncs, 10))
        effects.append(Resync(host.name, missing))
    return effects


def be_patient(host: KnownHost, now: float) -> None:
    """Give a host a moment to say by itself what is missing."""
    host.resyncs, host.resync_at = 0, now + RESYNC_AFTER_S


def missing_truth(host: KnownHost, own: Sequence[Row]) -> str:
    """What a living host has not told, in words; empty when nothing is missing."""
    if host.birth is None:
        return "its birth is missing"
    lost = [
        row
        for row in own
        if row.status and row.status.boot == host.boot and row.status.quality == "lost"
    ]
    if lost:
        return f"{lost[0].key.device} is shown as lost"
    seen = sum(rows.current(row, host) and row.meta is not None for row in own)
    promised = host.birth.manifest.count
    return "" if seen >= promised else f"{seen} of {promised} devices are known"


def to_correct(own: Sequence[Row], now: float, *, at_once: bool = False) -> list[Effect]:
    """The devices of a host that is gone which the bus still shows as if it were there. One that was
    written a moment ago, perhaps by a host that is just coming back, is given that moment."""
    effects: list[Effect] = []
    for row in own:
        if row.status is None or row.status.quality == "lost":
            continue
        written = row.lost_written_at
        due = at_once or now - row.status_at >= REWRITE_AFTER_S
        if due and (written is None or now - written >= REWRITE_AFTER_S):
            row.lost_written_at = now
            effects.append(WriteLost(row.key))
    return effects
