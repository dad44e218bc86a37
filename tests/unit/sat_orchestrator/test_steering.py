"""Steering: what the fleet asks for is done, and each device is brought nearer to what is desired."""

from __future__ import annotations

import json

import pytest

from sat_bus.contract import topics
from sat_bus.contract.device_key import Key
from sat_bus.contract.messages import Desired, Meta
from sat_orchestrator.fleet.effects import (
    EpochSeen,
    HostGone,
    HostRestarted,
    Noted,
    Resync,
    RowChanged,
    ScanWanted,
    WriteLost,
)
from tests.unit.sat_orchestrator.parts import (
    BOOT,
    CONNECT,
    DRIVER,
    HOST,
    KEY,
    NEW_BOOT,
    SITE,
    Parts,
    S,
)

HOST_STATE = topics.HOST_STATE.build(SITE, host=HOST)
STATUS = topics.DEVICE_STATUS.build(SITE, **KEY._asdict())


def planned(state: S = S.DISCOVERED) -> Parts:
    parts = Parts(CONNECT)
    parts.host_up()
    parts.device(state)
    return parts


# -- plans -----------------------------------------------------------------------------------------


def test_a_device_is_connected_in_one_round_trip_and_then_its_stream_is_started() -> None:
    parts = planned()
    connect = parts.the("connect")
    assert parts.asked("initialize") == []
    assert connect.body["args"] == {"driver": DRIVER, "device": "can0"}
    assert connect.body["timeout_ms"] == 64_800
    parts.status(S.INITIALIZED)
    parts.status(S.CONNECTED)
    parts.answer(connect, {"changed": True}, state="connected")
    start = parts.the("start")
    assert start.body["args"] == {
        "driver": DRIVER, "device": "can0", "stream": "can", "args": {"fd": True},
    }  # fmt: skip
    parts.answer(start, "started", state="connected")
    assert parts.asked() == []
    assert parts.row.attempts == 0


def test_an_unknown_device_is_scanned_for_with_all_of_its_driver() -> None:
    parts = planned(S.UNKNOWN)
    scan = parts.the("scan")
    assert scan.body["args"] == {"driver": DRIVER}
    assert scan.body["timeout_ms"] == 29_800
    parts.answer(scan, {"devices": []})
    assert parts.row.attempts == 1
    assert parts.asked() == []


def test_a_failure_is_noted_and_waits_its_back_off() -> None:
    parts = planned()
    parts.refuse(parts.the("connect"), "timeout")
    assert parts.row.attempts == 1
    assert parts.asked() == []
    parts.clock.now += 1.0
    parts.beat()
    parts.steering.turn()
    parts.the("connect")


def test_what_cannot_be_sent_is_tried_again_later() -> None:
    parts = Parts(CONNECT)
    parts.host_up()
    parts.bus.up = False
    parts.device()
    assert (parts.row.in_flight, parts.row.attempts) == (None, 0)
    parts.bus.up = True
    parts.steering.turn()
    assert parts.asked() == []
    parts.clock.now += 1.0
    parts.steering.turn()
    parts.the("connect")


def test_an_action_that_outlives_its_device_ends_in_nothing() -> None:
    parts = planned()
    connect = parts.the("connect")
    parts.steering.forget(KEY, device=False)
    parts.answer(connect, state="connected")
    assert KEY not in parts.fleet.rows
    assert parts.loop.errors == 0


@pytest.mark.parametrize("missing", ["leading", "connected"])
def test_nothing_is_planned_unless_we_lead_and_the_broker_is_there(missing: str) -> None:
    parts = Parts(CONNECT)
    if missing == "leading":
        parts.lead.leading = False
    else:
        parts.steering.connected = False
    parts.host_up()
    parts.device()
    parts.steering.turn()
    assert parts.asked("connect") == []
    assert (parts.table() == {}) is (missing == "leading")


def test_a_turn_finds_what_was_missed() -> None:
    parts = planned(S.CONNECTED)
    parts.answer(parts.the("start"), state="connected")
    parts.clock.now += 2.0  # the status that says so is lost
    parts.beat()
    assert parts.asked() == []
    parts.steering.turn()
    parts.the("start")


# -- effects ---------------------------------------------------------------------------------------


def test_a_changed_row_is_shown_once_however_often_it_changed() -> None:
    parts = planned(S.CONNECTED)
    parts.fleet.set_desired(KEY, Desired(level="disconnected"), accept=False)
    parts.clock.now += 1.0
    before = len(parts.bus.sent)
    parts.steering.apply([RowChanged(KEY), RowChanged(KEY), RowChanged(Key(HOST, DRIVER, "no"))])
    row = topics.TABLE_ROW.build(SITE, **KEY._asdict())
    assert [sent.topic for sent in parts.bus.sent[before:]].count(row) == 1


def test_a_lost_host_is_said_and_who_waits_for_it_is_told() -> None:
    parts = planned()
    parts.clock.now += 3.1
    parts.steering.tick()
    assert json.loads(parts.bus.retained(HOST_STATE) or b"") == {"state": "lost", "boot": BOOT}
    assert json.loads(parts.bus.retained(STATUS) or b"")["quality"] == "lost"
    assert parts.row.in_flight is None
    assert len(parts.calls) == 0
    event = topics.DEVICE_EVENT.build(SITE, **KEY._asdict())
    assert [each["event"] for each in parts.replies(event)] == ["lost"]


def test_what_a_host_or_its_will_has_said_of_its_end_stands() -> None:
    parts = planned()
    parts.host_gone()
    assert parts.bus.retained(HOST_STATE) is None
    assert json.loads(parts.bus.retained(STATUS) or b"")["quality"] == "lost"


def test_what_waits_for_an_old_boot_is_told_that_it_is_over() -> None:
    parts = planned()
    reply = parts.ask("close", device="can0")
    parts.host_up(boot=NEW_BOOT)
    said = parts.reply(reply)
    assert said["code"] == "host_lost"
    assert said["message"] == ("host bench was restarted; the effect of the request is unknown")


def test_before_we_lead_only_epochs_and_lost_answers_are_heeded() -> None:
    parts = planned()
    parts.lead.leading = False
    parts.bus.sent.clear()
    promise = parts.calls.ask(HOST, BOOT, "close", {}, 5.0)
    parts.bus.sent.clear()
    parts.steering.apply(
        [HostGone(HOST, "x"), WriteLost(KEY), Resync(HOST, "x"), ScanWanted(HOST),
         Noted(KEY, "held", "x"), RowChanged(KEY)]
    )  # fmt: skip
    assert parts.bus.sent == []
    assert not promise.settled
    parts.steering.apply([EpochSeen(9), HostRestarted(HOST)])
    assert promise.result().code == "host_lost"
    assert parts.leadership.claim() == 10


def test_hosts_are_asked_to_scan_and_to_tell_everything_again() -> None:
    parts = planned()
    parts.steering.apply([ScanWanted(HOST), Resync(HOST, "its heartbeat is back")])
    assert parts.the("scan").body["args"] == {}
    parts.the("resync")


def test_an_epoch_that_a_host_has_seen_is_topped() -> None:
    parts = planned()
    parts.steering.apply([EpochSeen(9)])
    assert parts.leadership.epoch == 10


def test_what_happened_to_a_device_is_told() -> None:
    parts = planned()
    for name in ("serial-1", "serial-2"):
        meta = Meta(name="can0", device_type="CAN", hardware_id=name)
        parts.steering.apply(parts.fleet.meta(KEY, meta, parts.clock.now))
    event = topics.DEVICE_EVENT.build(SITE, **KEY._asdict())
    (told,) = parts.replies(event)
    assert told["event"] == "held"
    assert "serial-2" in told["reason"]


# -- time and connection ---------------------------------------------------------------------------


def test_a_tick_expires_calls_even_while_the_broker_is_away() -> None:
    parts = planned()
    parts.steering.connected = False
    parts.clock.now += 65.0
    parts.steering.tick()
    assert len(parts.calls) == 0
    assert parts.fleet.hosts[HOST].presence == "alive"  # nobody is judged meanwhile


def test_a_broker_that_is_back_is_told_rows_and_lost_hosts_again() -> None:
    parts = planned()
    parts.host_up("other")
    other = Key("other", DRIVER, "can0")
    parts.device(S.CONNECTED, other)
    parts.fleet.row(Key("other", DRIVER, "never"), 0.0)  # nothing was ever said of it
    parts.host_gone("other")
    parts.steering.connected = False
    parts.clock.now += 60.0
    parts.bus.sent.clear()
    parts.steering.reconnected()
    assert parts.steering.connected
    assert parts.bus.retained(topics.TABLE_ROW.build(SITE, **KEY._asdict()))
    state = topics.HOST_STATE.build(SITE, host="other")
    assert json.loads(parts.bus.retained(state) or b"") == {"state": "lost", "boot": BOOT}
    assert parts.bus.retained(topics.DEVICE_STATE.build(SITE, **other._asdict())) == b"unknown"
    never = topics.DEVICE_STATE.build(SITE, **{**other._asdict(), "device": "never"})
    for untold in (never, HOST_STATE, STATUS):
        assert parts.bus.retained(untold) is None
    parts.steering.tick()
    assert parts.fleet.hosts[HOST].presence == "alive"


def test_who_does_not_lead_tells_a_broker_nothing() -> None:
    parts = planned()
    parts.host_gone()
    parts.lead.leading = False
    parts.bus.sent.clear()
    parts.steering.reconnected()
    assert parts.bus.sent == []
    assert parts.steering.connected


def test_a_forgotten_device_is_gone_from_fleet_and_bus() -> None:
    parts = planned()
    parts.steering.forget(KEY, device=True)
    assert KEY not in parts.fleet.rows
    assert parts.table() == {}
    assert parts.bus.retained(STATUS) == b""
