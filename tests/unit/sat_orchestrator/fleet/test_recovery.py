"""Failures of a device: when they count, how long they wait, and when they are forgiven."""

from __future__ import annotations

from typing import Any

import pytest

from sat_bus.contract.device_key import Key
from sat_bus.contract.messages import Status, StreamStatus
from sat_orchestrator.fleet import recovery
from sat_orchestrator.fleet.effects import Noted
from sat_orchestrator.fleet.table import Action, Row
from sat_toolkit.core.device_spec import DeviceState
from sat_toolkit.errors import Code

S = DeviceState
KEY = Key("bench", "drv_x", "can0")


def row(operation: str = "connect", stream: str = "", state: DeviceState = S.DISCOVERED) -> Row:
    return Row(KEY, status(state), observed=state, in_flight=Action(operation, stream))


def status(state: DeviceState, **fields: Any) -> Status:
    return Status(
        **{"state": state, "previous": S.UNKNOWN, "since": 0.0, "rev": 1, "boot": "2000-bb",
           "by": "host", **fields}
    )  # fmt: skip


def running(state: str = "running") -> dict[str, StreamStatus]:
    return {"can": StreamStatus.model_validate({"state": state, "stream": "s1", "by": "ann"})}


def over(device: Row, code: Code | None = None, reached: DeviceState | None = None) -> bool:
    return recovery.action_over(device, code, "why", reached, 100.0, 0.5)


def test_each_failure_waits_longer() -> None:
    device = row()
    device.healthy_since = 3.0
    recovery.count_failure(device, 100.0, 0.5)
    recovery.count_failure(device, 100.0, 0.5)
    assert (device.attempts, device.not_before, device.healthy_since) == (2, 102.0, None)


def test_success_waits_for_the_status_that_the_reply_has_announced() -> None:
    device = row()
    assert not over(device, reached=S.CONNECTED)
    assert device.in_flight is None
    assert (device.settle_for, device.settle_until) == (S.CONNECTED, 102.0)
    assert (device.attempts, device.not_before) == (0, 0.0)


@pytest.mark.parametrize("code", [Code.FENCED, Code.HOST_LOST, Code.EXPIRED, Code.BUSY])
def test_what_never_reached_the_driver_waits_a_second(code: Code) -> None:
    device = row()
    assert not over(device, code)
    assert (device.attempts, device.not_before) == (0, 101.0)
    device.not_before = 500.0
    over(device, code)
    assert device.not_before == 500.0


def test_a_quarantine_stops_the_planner_with_the_hosts_words() -> None:
    device = row()
    assert not over(device, Code.QUARANTINED)
    assert (device.stopped, device.attempts) == ("why", 0)


def test_a_failure_that_ends_in_error_is_counted_by_the_status_that_says_so() -> None:
    device = row()
    assert not over(device, Code.DRIVER_ERROR, S.ERROR)
    assert (device.attempts, device.settle_for) == (0, S.ERROR)


@pytest.mark.parametrize("operation", ["scan", "reset"])
def test_a_scan_or_reset_that_fails_counts_itself(operation: str) -> None:
    device = row(operation)
    assert over(device, Code.DRIVER_ERROR, S.ERROR)
    assert device.attempts == 1


def test_a_failure_elsewhere_counts() -> None:
    for reached in (None, S.DISCOVERED):
        device = row()
        assert over(device, Code.TIMEOUT, reached)
        assert device.attempts == 1


def test_a_scan_counts_even_where_it_succeeds() -> None:
    device = row("scan")
    assert over(device)
    assert device.attempts == 1


def test_without_an_action_nothing_but_the_outcome_counts() -> None:
    device = row()
    device.in_flight = None
    assert not over(device, None, S.CONNECTED)
    assert device.settle_for is S.CONNECTED


def test_after_its_limit_of_rounds_a_device_is_given_up_once() -> None:
    device = row(state=S.ERROR)
    device.status = status(S.ERROR, reason="no carrier")
    device.rounds = 4
    assert recovery.give_up(device, 5) == []
    assert device.stopped == ""
    device.rounds = 5
    (note,) = recovery.give_up(device, 5)
    assert note == Noted(KEY, "gave_up", device.stopped)
    assert device.stopped == (
        "gave up after 5 recoveries; set, reset or replug the device (last error: no carrier)"
    )
    assert recovery.give_up(device, 5) == []
    device = row()
    device.status = None
    recovery.give_up(device, 0)
    assert "last error" not in device.stopped


def test_a_fresh_start_forgets_all_that_was_counted() -> None:
    device = row()
    device.attempts, device.rounds, device.not_before, device.settle_until = 3, 2, 9.0, 9.0
    device.stopped, device.healthy_since = "gave up", 5.0
    recovery.forgive(device)
    assert (device.attempts, device.rounds, device.not_before, device.settle_until) == (0, 0, 0, 0)
    assert (device.stopped, device.healthy_since) == ("", None)


@pytest.mark.parametrize(("attempts", "rounds"), [(1, 0), (0, 1)])
def test_a_minute_of_health_is_forgiveness(attempts: int, rounds: int) -> None:
    device = row()
    device.attempts, device.rounds = attempts, rounds
    recovery.note_health(device, True, 100.0)
    recovery.note_health(device, True, 159.9)
    assert device.attempts + device.rounds == 1
    recovery.note_health(device, False, 159.95)
    recovery.note_health(device, True, 160.0)
    recovery.note_health(device, True, 219.9)
    assert device.attempts + device.rounds == 1
    recovery.note_health(device, True, 220.0)
    assert device.attempts + device.rounds == 0


def test_who_never_failed_needs_no_forgiveness() -> None:
    device = row()
    recovery.note_health(device, True, 100.0)
    assert device.healthy_since is None


def test_nothing_is_waited_for_that_is_there_already() -> None:
    device = row(state=S.CONNECTED)
    recovery.settle(device, S.CONNECTED, 100.0)
    assert device.settle_for is None
    recovery.settle(device, None, 100.0)
    assert device.settle_for is None
    device.status = status(S.CONNECTED, streams=running())
    recovery.settle(device, S.CONNECTED, 100.0, "can")
    assert device.settle_for is None


def test_a_started_stream_is_waited_for_by_its_name() -> None:
    device = row(state=S.CONNECTED)
    recovery.settle(device, S.CONNECTED, 100.0, "can")
    assert device.settle_for == "can"
    device.status = status(S.CONNECTED, streams=running("stopped"))
    recovery.settled(device)
    assert device.settle_for == "can"
    device.status = status(S.CONNECTED, streams=running())
    recovery.settled(device)
    assert (device.settle_for, device.settle_until) == (None, 0.0)


@pytest.mark.parametrize(("acquiring", "shown"), [(True, True), (False, False)])
def test_of_a_driver_without_stream_types_any_acquisition_will_do(
    acquiring: bool, shown: bool
) -> None:
    device = row(state=S.CONNECTED)
    recovery.settle(device, S.CONNECTED, 100.0, "can")
    device.status = status(S.CONNECTED, acquiring=acquiring)
    recovery.settled(device)
    assert (device.settle_for is None) is shown


@pytest.mark.parametrize(
    ("state", "shown"),
    [(S.CONNECTED, True), (S.ERROR, True), (S.INITIALIZED, False), (S.ACTIVE, False)],
)
def test_a_state_is_waited_for_until_it_or_a_failure_comes(state: DeviceState, shown: bool) -> None:
    for stream in ("", "can"):
        device = row()
        recovery.settle(device, S.CONNECTED, 100.0, stream)
        device.status = status(state)
        recovery.settled(device)
        expected = shown if not stream else state is S.ERROR
        assert (device.settle_for is None) is expected
    device.status = None
    recovery.settle(device, S.CONNECTED, 100.0)
    recovery.settled(device)
    assert device.settle_for is S.CONNECTED
