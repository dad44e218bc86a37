"""Failures of a device: counted, waited for, given up, forgiven."""

from __future__ import annotations

from typing import Any

import pytest

from sat_bus.contract.device_key import Key
from sat_bus.contract.messages import Status, StreamStatus
from sat_orchestrator.fleet import planner, recovery
from sat_orchestrator.fleet.table import Action, Noted, Row
from sat_toolkit.core.device_spec import DeviceState
from sat_toolkit.errors import Code

S = DeviceState
NOW = 100.0


def status(state: S, **fields: Any) -> Status:
    known = {"previous": S.UNKNOWN, "since": 0.0, "rev": 1, "boot": "b", "by": "host"}
    return Status(state=state, **(known | fields))


def row(**fields: Any) -> Row:
    return Row(Key("bench", "drv_x", "can0"), **fields)


def over(known: Row, operation: str, code: Code | None, reached: S | None = None) -> bool:
    known.in_flight = Action(operation)
    return recovery.action_over(known, code, "why", reached, NOW, 0.5)


def test_a_failure_is_counted_and_waited_for() -> None:
    known = row(healthy_since=1.0)
    recovery.count_failure(known, NOW, 0.5)
    assert (known.attempts, known.healthy_since) == (1, None)
    assert known.not_before == NOW + planner.backoff(1, 0.5) > NOW


def test_a_device_is_given_up_once_and_with_its_last_error() -> None:
    known = row(rounds=3, status=status(S.ERROR, reason="no carrier"))
    assert recovery.give_up(known, 4) == []
    (note,) = recovery.give_up(known, 3)
    assert isinstance(note, Noted)
    assert note.event == "gave_up"
    assert "gave up after 3 recoveries" in known.stopped
    assert "no carrier" in known.stopped
    assert recovery.give_up(known, 3) == []


def test_whoever_is_forgiven_starts_afresh() -> None:
    known = row(attempts=2, rounds=3, not_before=9.0, stopped="gave up", healthy_since=1.0)
    recovery.forgive(known)
    assert known == row()


def test_a_minute_of_health_is_forgiveness() -> None:
    known = row(attempts=1)
    recovery.note_health(known, True, NOW)
    recovery.note_health(known, True, NOW + recovery.HEALTHY_AFTER_S - 0.1)
    assert known.attempts == 1
    recovery.note_health(known, False, NOW + 59.95)  # it begins anew
    recovery.note_health(known, True, NOW + 60.0)
    recovery.note_health(known, True, NOW + 119.0)
    assert known.attempts == 1
    recovery.note_health(known, True, NOW + 120.0)
    assert known.attempts == 0


@pytest.mark.parametrize("code", [Code.FENCED, Code.HOST_LOST, Code.EXPIRED, Code.BUSY])
def test_what_never_reached_the_driver_is_not_its_failure(code: Code) -> None:
    known = row()
    assert not over(known, "connect", code)
    assert (known.attempts, known.in_flight) == (0, None)
    assert known.not_before == NOW + planner.BACKOFF_MIN_S


@pytest.mark.parametrize(
    ("operation", "code", "reached", "counted"),
    [
        ("connect", Code.DRIVER_ERROR, S.ERROR, False),  # the status that says so counts it
        ("connect", Code.DRIVER_ERROR, S.INITIALIZED, True),
        ("connect", Code.TIMEOUT, None, True),
        ("reset", Code.DRIVER_ERROR, S.ERROR, True),
        ("scan", None, None, True),
        ("scan", Code.DRIVER_ERROR, None, True),
        ("connect", None, S.CONNECTED, False),
    ],
)
def test_which_outcomes_are_failures(
    operation: str, code: Code | None, reached: S | None, counted: bool
) -> None:
    known = row()
    assert over(known, operation, code, reached) is counted
    assert known.attempts == int(counted)


def test_a_quarantine_ends_the_planners_attempts() -> None:
    known = row()
    assert not over(known, "connect", Code.QUARANTINED)
    assert known.stopped == "why"


def test_a_reply_that_ran_ahead_waits_for_its_status() -> None:
    known = row(observed=S.INITIALIZED, status=status(S.INITIALIZED))
    over(known, "connect", None, S.CONNECTED)
    assert (known.settle_for, known.settle_until) == (S.CONNECTED, NOW + recovery.SETTLE_S)
    recovery.settled(known)
    assert known.settle_for is S.CONNECTED
    known.status = status(S.CONNECTED)
    recovery.settled(known)
    assert (known.settle_for, known.settle_until) == (None, 0.0)


def test_a_status_that_came_first_is_not_waited_for() -> None:
    known = row(observed=S.CONNECTED, status=status(S.CONNECTED))
    over(known, "connect", None, S.CONNECTED)
    assert known.settle_for is None


def test_a_stream_that_was_started_is_waited_for_until_it_runs() -> None:
    known = row(observed=S.CONNECTED, status=status(S.CONNECTED))
    recovery.settle(known, S.CONNECTED, NOW, "can")
    assert known.settle_for == "can"
    running = StreamStatus(state="running", stream="s", by="orchestrator")
    known.status = status(S.CONNECTED, streams={"can": running})
    recovery.settled(known)
    assert known.settle_for is None


def test_an_error_ends_every_wait() -> None:
    known = row(settle_for="can", settle_until=NOW, status=status(S.ERROR))
    recovery.settled(known)
    assert known.settle_for is None
