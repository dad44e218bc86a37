"""What follows from a row: what is observed and desired, how the bus shows it, what is kept."""

from __future__ import annotations

from typing import Any

import pytest

from sat_bus.contract.device_key import Key
from sat_bus.contract.messages import Birth, Desired, Manifest, Meta, Status, StreamStatus
from sat_orchestrator.fleet import rows
from sat_orchestrator.fleet.table import Action, KnownHost, Presence, Record, Row
from sat_toolkit.core.device_spec import DeviceState
from sat_toolkit.core.lifecycle import Operation

S = DeviceState
KEY = Key("bench", "drv_x", "can0")
BOOT, OLD = "2000-bb", "1000-aa"
CONNECTED = Desired(level="connected", streams={"can": {"fd": True}})


def status(state: DeviceState = S.CONNECTED, **fields: Any) -> Status:
    return Status(
        **{"state": state, "previous": S.UNKNOWN, "since": 0.0, "rev": 7, "boot": BOOT,
           "by": "host", **fields}
    )  # fmt: skip


def host(presence: Presence = Presence.ALIVE, boot: str = BOOT) -> KnownHost:
    birth = Birth(
        boot=BOOT, family="can", drivers=[], manifest=Manifest(count=0, rev=0), epoch_seen=0,
        version="0", clock=0.0,
    )  # fmt: skip
    return KnownHost("bench", 0.0, boot, birth, "ready", presence, reason="no heartbeat")


def row(**fields: Any) -> Row:
    device = Row(KEY, status(), meta=Meta(name="can0", device_type="CAN", streams=["can"]))
    device.observed, device.quality = S.CONNECTED, "good"
    for name, value in fields.items():
        setattr(device, name, value)
    return device


def stream(state: str = "running", ident: str = "s1", by: str = "ann", **args: Any) -> StreamStatus:
    return StreamStatus.model_validate({"state": state, "stream": ident, "by": by, "args": args})


# -- what is observed ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "presence", "boot", "seen"),
    [
        (status(), Presence.ALIVE, BOOT, (S.CONNECTED, "good", None)),
        (status(), Presence.AWAITED, BOOT, (S.CONNECTED, "good", None)),
        (status(), Presence.AWAITED, "", (S.CONNECTED, "good", None)),
        (status(), Presence.GONE, BOOT, (S.UNKNOWN, "lost", S.CONNECTED)),
        (status(boot=OLD), Presence.ALIVE, BOOT, (S.UNKNOWN, "lost", S.CONNECTED)),
        (status(S.UNKNOWN, quality="lost", last_known=S.ERROR), Presence.ALIVE, BOOT,
         (S.UNKNOWN, "lost", S.ERROR)),
        (status(S.UNKNOWN, quality="lost"), Presence.ALIVE, BOOT, (S.UNKNOWN, "lost", S.ACTIVE)),
        (status(S.UNKNOWN), Presence.GONE, BOOT, (S.UNKNOWN, "lost", S.ACTIVE)),
        (status(S.UNKNOWN), Presence.ALIVE, BOOT, (S.UNKNOWN, "good", None)),
        (None, Presence.ALIVE, BOOT, (S.UNKNOWN, "lost", S.CONNECTED)),
    ],
)  # fmt: skip
def test_a_status_is_believed_while_its_host_is_there(
    told: Status | None, presence: Presence, boot: str, seen: tuple[Any, ...]
) -> None:
    device = row(status=told, last_known=S.ACTIVE)
    assert rows.observe(device, host(presence, boot)) == seen


def test_without_a_status_the_last_one_that_was_known_stays() -> None:
    device = row(status=None, observed=S.UNKNOWN, last_known=S.ERROR)
    assert rows.observe(device, host()) == (S.UNKNOWN, "lost", S.ERROR)


def test_a_row_says_whether_bringing_it_up_to_date_has_changed_it() -> None:
    device = row()
    assert not rows.refresh(device, host())
    assert rows.refresh(device, host(Presence.GONE))
    assert (device.observed, device.quality, device.last_known) == (S.UNKNOWN, "lost", S.CONNECTED)


# -- what the planner weighs -----------------------------------------------------------------------


def test_a_row_as_the_planner_weighs_it() -> None:
    streams = {"can": stream(), "uart": stream("stopped")}
    device = row(status=status(acquiring=True, streams=streams), explicit=CONNECTED)
    view = rows.view(device, host())
    assert (view.observed, view.desired) == (S.CONNECTED, CONNECTED)
    assert (view.certain, view.busy) == (True, False)
    assert (view.running, view.acquiring, view.declared) == (["can"], True, ["can"])
    bare = rows.view(row(status=None, meta=None), host())
    assert (bare.running, bare.acquiring, bare.declared, bare.certain) == ([], False, (), False)


@pytest.mark.parametrize(
    ("fields", "there", "certain"),
    [
        ({}, {}, True),
        ({"quality": "lost"}, {}, False),
        ({"meta": None}, {}, False),
        ({}, {"presence": Presence.GONE}, False),
        ({}, {"presence": Presence.AWAITED}, False),
        ({}, {"boot": ""}, False),
    ],
)
def test_what_is_not_certain_is_not_planned(
    fields: dict[str, Any], there: dict[str, Any], certain: bool
) -> None:
    assert rows.view(row(**fields), host(**there)).certain is certain


def test_a_device_is_busy_with_an_action_or_a_client() -> None:
    assert rows.view(row(in_flight=Action("connect")), host()).busy
    assert rows.view(row(clients=1), host()).busy


@pytest.mark.parametrize("name", ["not_before", "client_until", "settle_until"])
def test_the_planner_waits_for_the_latest_of_what_it_waits_for(name: str) -> None:
    assert rows.view(row(**{name: 9.0}), host()).not_before == 9.0


# -- what is desired -------------------------------------------------------------------------------


def test_starts_and_stops_of_clients_change_what_is_desired_once() -> None:
    device = row(policy=CONNECTED)
    rows.learn_streams(device, status(streams={"can": stream("stopped")}))
    assert device.explicit == Desired(level="connected")
    assert device.streams_seen == {"can": "s1/stopped/ann"}
    device.explicit = CONNECTED  # a later set
    rows.learn_streams(device, status(streams={"can": stream("stopped")}))
    assert device.explicit == CONNECTED
    rows.learn_streams(device, status(streams={"uart": stream(baud=5)}))
    assert device.explicit == Desired(
        level="connected", streams={"can": {"fd": True}, "uart": {"baud": 5}}
    )


@pytest.mark.parametrize("by", ["host", "orchestrator", "policy"])
def test_what_no_client_did_is_only_remembered(by: str) -> None:
    device = row(policy=CONNECTED)
    rows.learn_streams(device, status(streams={"can": stream("stopped", by=by)}))
    assert device.explicit is None
    assert device.streams_seen == {"can": f"s1/stopped/{by}"}


def test_a_start_that_changes_nothing_leaves_policy_in_force() -> None:
    device = row(policy=CONNECTED)
    rows.learn_streams(device, status(streams={"can": stream(fd=True), "uart": stream("stopped")}))
    assert device.explicit is None
    device = row()
    rows.learn_streams(device, status(streams={"can": stream(), "uart": stream()}))
    assert device.explicit is None
    assert len(device.streams_seen) == 2


def test_a_mark_is_short_enough_for_the_database() -> None:
    device = row(policy=CONNECTED)
    rows.learn_streams(device, status(streams={"can": stream(ident="s" * 300)}))
    assert len(device.streams_seen["can"]) == 200


@pytest.mark.parametrize(
    ("operation", "level"),
    [
        (Operation.INITIALIZE, "initialized"),
        (Operation.RESET, "disconnected"),
        (Operation.CLOSE, "disconnected"),
    ],
)
def test_who_acts_desires_what_the_act_leads_to(operation: Operation, level: str) -> None:
    device = row(explicit=CONNECTED)
    desired = Desired.model_validate({"level": level})
    assert rows.desired_behind(operation, device) == desired


def test_who_connects_keeps_the_streams_that_are_desired_and_else_takes_the_rules() -> None:
    assert rows.desired_behind(Operation.CONNECT, row()) == Desired(level="connected")
    explicit = Desired(level="connected", streams={"uart": {}})
    device = row(policy=CONNECTED, explicit=explicit)
    assert rows.desired_behind(Operation.CONNECT, device) == explicit
    device = row(policy=CONNECTED, explicit=Desired(level="disconnected"))
    assert rows.desired_behind(Operation.CONNECT, device) == CONNECTED


def test_other_hardware_is_foreign_where_both_are_known() -> None:
    for known, answers, foreign in (
        ("a", "b", True), ("a", "a", False), (None, "b", False), ("a", None, False),
    ):  # fmt: skip
        meta = Meta(name="x", device_type="CAN", hardware_id=answers)
        told = rows.foreign_identity(row(hardware_id=known), meta)
        assert bool(told) is foreign
    assert rows.foreign_identity(
        row(hardware_id="a"), Meta(name="x", device_type="CAN", hardware_id="b")
    ) == ("hardware b answers to a name that belongs to a; set or connect the device to accept it")


# -- how it is shown and kept ----------------------------------------------------------------------


def test_a_row_on_the_bus() -> None:
    device = row(
        status=status(reason="bus-off"), explicit=CONNECTED, hardware_id="a", held="b", attempts=2
    )
    shown = rows.table_row(device, host())
    assert shown.model_dump() == {
        "observed": S.CONNECTED, "desired": CONNECTED.model_dump(), "quality": "good",
        "policy": "explicit", "rev": 7, "hardware_id": "a", "last_known": None, "reason": "bus-off",
        "held": "b", "attempts": 2,
    }  # fmt: skip
    assert rows.table_row(row(stopped="gave up"), host()).reason == "gave up"
    assert rows.table_row(row(quality="lost"), host()).reason == "no heartbeat"
    silent = host()
    silent.reason = ""
    bare = rows.table_row(row(status=None, quality="lost"), silent)
    assert (bare.reason, bare.rev) == ("not reported by its host", 0)
    assert rows.table_row(row(status=None), host()).reason == ""


def test_a_lost_device_in_its_hosts_stead() -> None:
    written = rows.lost_status(row(last_known=S.ERROR), host(), 5.0)
    assert (written.state, written.previous, written.last_known) == (S.UNKNOWN, S.ERROR, S.ERROR)
    assert (written.since, written.rev, written.boot, written.by) == (5.0, 7, BOOT, "orchestrator")
    assert (written.quality, written.reason) == ("lost", "host bench is lost: no heartbeat")
    unheard = rows.lost_status(row(status=status(boot=OLD)), host(boot=""), 5.0)
    assert unheard.boot == OLD
    bare = rows.lost_status(row(status=None), host(boot=""), 5.0)
    assert (bare.boot, bare.rev, bare.previous) == ("", 0, S.UNKNOWN)


def test_a_row_as_the_database_keeps_it() -> None:
    device = row(hardware_id="a", explicit=CONNECTED, streams_seen={"can": "mark"})
    kept = rows.record(device)
    assert kept == Record(KEY, "a", CONNECTED, {"can": "mark"}, S.CONNECTED, 7)
    device.streams_seen["uart"] = "later"
    assert kept.streams_seen == {"can": "mark"}
    lost = row(quality="lost", observed=S.UNKNOWN, last_known=S.ERROR)
    assert rows.record(lost).observed is S.ERROR
    bare = rows.record(row(quality="lost", status=None))
    assert (bare.observed, bare.rev) == (S.UNKNOWN, 0)
