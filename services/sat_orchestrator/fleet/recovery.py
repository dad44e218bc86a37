"""Failures of a device: counted, waited for, given up, forgiven. PURE; the only writer of a row's
counters."""

from __future__ import annotations

from sat_orchestrator.fleet import planner
from sat_orchestrator.fleet.effects import Effect, Noted
from sat_orchestrator.fleet.table import Row
from sat_toolkit.core.device_spec import DeviceState
from sat_toolkit.errors import Code

HEALTHY_AFTER_S = 60.0
CLIENT_TURN_S = 5.0
SETTLE_S = 2.0
# Codes of an action that never reached the driver: no failure of the device.
_NOT_TRIED = frozenset({Code.FENCED, Code.HOST_LOST, Code.EXPIRED, Code.BUSY})


def count_failure(row: Row, now: float, jitter: float) -> None:
    """The device failed: the next attempt waits its back-off."""
    row.attempts += 1
    row.healthy_since = None
    row.not_before = now + planner.backoff(row.attempts, jitter)


def give_up(row: Row, limit: int) -> list[Effect]:
    """Stop acting on a device that `limit` recoveries have not mended."""
    if row.stopped or row.rounds < limit:
        return []
    why = row.status.reason if row.status is not None else ""
    row.stopped = f"gave up after {row.rounds} recoveries; set, reset or replug the device"
    row.stopped += f" (last error: {why})" if why else ""
    return [Noted(row.key, "gave_up", row.stopped)]


def forgive(row: Row) -> None:
    """Start afresh: a client acted, the device was plugged in again, its host restarted, or it was
    well long enough."""
    row.attempts = row.rounds = 0
    row.not_before = row.settle_until = 0.0
    row.stopped, row.healthy_since = "", None


def note_health(row: Row, converged: bool, now: float) -> None:
    """Forgive what was well for a while."""
    if not row.attempts and not row.rounds:
        return
    if not converged:
        row.healthy_since = None
    elif row.healthy_since is None:
        row.healthy_since = now
    elif now - row.healthy_since >= HEALTHY_AFTER_S:
        forgive(row)


def action_over(
    row: Row, code: Code | None, message: str, reached: DeviceState | None, now: float, jitter: float
) -> bool:  # fmt: skip
    """The planner's action on `row` is over; whether it counts as a failure.

    Args:
        code: why it failed, None for success; `message` says it in words.
        reached: the state that the host reports.
    """
    action, row.in_flight = row.in_flight, None
    operation = action.operation if action is not None else ""
    if code is None and operation != "scan":
        settle(row, reached, now, action.stream if action is not None else "")
    elif code in _NOT_TRIED:
        row.not_before = max(row.not_before, now + planner.BACKOFF_MIN_S)
    elif code is Code.QUARANTINED:
        row.stopped = message
    elif operation not in ("scan", "reset") and reached is DeviceState.ERROR:
        settle(row, reached, now)  # the status that says so counts the failure
    else:
        # A scan counts either way: had it found the device, the status would forgive it.
        count_failure(row, now, jitter)
        return True
    return False


def settle(row: Row, reached: DeviceState | None, now: float, stream: str = "") -> None:
    """Wait a little for the status that a reply has run ahead of.

    Args:
        reached: the state that the reply reports.
        stream: the stream that was started.
    """
    awaited = stream or (reached if reached is not row.observed else None)
    if awaited and not _shows(row, awaited):
        row.settle_for, row.settle_until = awaited, now + SETTLE_S


def settled(row: Row) -> None:
    """A status came: no more waiting, if it is the awaited one or tells of a failure."""
    if row.settle_for is not None and _shows(row, row.settle_for):
        row.settle_for, row.settle_until = None, 0.0


def _shows(row: Row, awaited: DeviceState | str) -> bool:
    status = row.status
    if status is None:
        return False
    if status.state is DeviceState.ERROR or isinstance(awaited, DeviceState):
        return status.state in (awaited, DeviceState.ERROR)
    stream = status.streams.get(awaited)
    return status.acquiring if stream is None else stream.state == "running"
