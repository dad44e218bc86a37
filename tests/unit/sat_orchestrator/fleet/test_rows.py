"""What follows from a row: what is observed, what clients desire by acting, what the bus shows."""

from __future__ import annotations

from typing import Any

import pytest

from sat_bus.contract.device_key import Key
from sat_bus.contract.messages import Desired, Meta, Status, StreamStatus
from sat_orchestrator.fleet import rows
from sat_orchestrator.fleet.table import KnownHost, Presence, Row
from sat_toolkit.core.device_spec import DeviceState
from sat_toolkit.core.lifecycle import Operation

S = DeviceState
CONNECTED = Desired(level="connected", streams={"can": {}})


def host(presence: Presence = Presence.ALIVE, boot: str = "b2") -> KnownHost:
    return KnownHost("bench", 0.0, boot=boot, presence=presence, reason="it is offline")


def status(state: S = S.CONNECTED, **fields: Any) -> Status:
    known = {"previous": S.UNKNOWN, "since": 0.0, "rev": 7, "boot": "b2", "by": "host"}
    return Status(state=state, **(known | fields))


def row(**fields: Any) -> Row:
    return Row(Key("bench", "drv_x", "can0"), **fields)


@pytest.mark.parametrize(
    ("a_status", "a_host", "seen"),
    [
        (status(), host(), (S.CONNECTED, "good", None)),
        (status(), host(Presence.AWAITED), (S.CONNECTED, "good", None)),
        (status(), host(Presence.GONE), (S.UNKNOWN, "lost", S.CONNECTED)),
        (status(boot="b1"), host(), (S.UNKNOWN, "lost", S.CONNECTED)),
        (status(boot="b1"), host(boot=""), (S.CONNECTED, "good", None)),
        (
            status(S.UNKNOWN, quality="lost", last_known=S.ERROR),
            host(),
            (S.UNKNOWN, "lost", S.ERROR),
        ),
        (status(S.UNKNOWN, boot="b1"), host(), (S.UNKNOWN, "lost", S.INITIALIZED)),
        (None, host(), (S.UNKNOWN, "lost", S.INITIALIZED)),
    ],
)
def test_what_is_observed(a_status: Status | None, a_host: KnownHost, seen: tuple) -> None:
    known = row(status=a_status, last_known=S.INITIALIZED)
    assert rows.observe(known, a_host) == seen


def test_a_row_tells_whether_what_is_observed_has_changed() -> None:
    known = row(status=status())
    assert rows.refresh(known, host())
    assert (known.observed, known.quality, known.last_known) == (S.CONNECTED, "good", None)
    assert not rows.refresh(known, host())
    assert rows.refresh(known, host(Presence.GONE))


def stream(state: str, by: str, ident: str = "s1", **args: Any) -> StreamStatus:
    return StreamStatus(state=state, stream=ident, by=by, args=args)


def test_a_clients_start_and_stop_are_what_is_desired_from_then_on() -> None:
    known = row(policy=CONNECTED)
    rows.learn_streams(known, status(streams={"uart": stream("running", "ann", baud=9600)}))
    assert known.explicit == Desired(level="connected", streams={"can": {}, "uart": {"baud": 9600}})
    rows.learn_streams(known, status(streams={"can": stream("stopped", "ann")}))
    assert known.explicit == Desired(level="connected", streams={"uart": {"baud": 9600}})


def test_what_was_taken_into_account_once_does_not_outweigh_a_later_set() -> None:
    known, said = row(policy=CONNECTED), status(streams={"uart": stream("running", "ann")})
    rows.learn_streams(known, said)
    known.explicit = CONNECTED
    rows.learn_streams(known, said)
    assert known.explicit == CONNECTED


@pytest.mark.parametrize("by", ["host", "orchestrator", "policy"])
def test_what_no_client_did_is_not_desired(by: str) -> None:
    known = row(policy=CONNECTED)
    rows.learn_streams(known, status(streams={"can": stream("stopped", by)}))
    assert known.explicit is None


@pytest.mark.parametrize(
    ("operation", "fields", "desired"),
    [
        (Operation.INITIALIZE, {}, Desired(level="initialized")),
        (Operation.CLOSE, {"explicit": CONNECTED}, Desired(level="disconnected")),
        (Operation.RESET, {"explicit": CONNECTED}, Desired(level="disconnected")),
        (Operation.CONNECT, {"explicit": CONNECTED}, CONNECTED),
        (Operation.CONNECT, {"policy": CONNECTED, "explicit": Desired(level="initialized")}, CONNECTED),
        (Operation.CONNECT, {}, Desired(level="connected")),
    ],
)  # fmt: skip
def test_what_a_request_for_an_operation_desires(
    operation: Operation, fields: dict[str, Any], desired: Desired
) -> None:
    assert rows.desired_behind(operation, row(**fields)) == desired


@pytest.mark.parametrize(
    ("known", "answers", "held"),
    [("s1", "s2", True), ("s1", "s1", False), (None, "s2", False), ("s1", None, False)],
)
def test_another_hardware_under_a_known_name_is_held(
    known: str | None, answers: str | None, held: bool
) -> None:
    meta = Meta(name="can0", device_type="CAN", hardware_id=answers)
    said = rows.foreign_identity(row(hardware_id=known), meta)
    assert bool(said) is held
    if held:
        assert said.startswith("hardware s2 answers to a name that belongs to s1")


def test_the_table_says_why_a_device_is_lost_or_left_alone() -> None:
    known = row(status=status(reason="no carrier"), explicit=CONNECTED)
    rows.refresh(known, host())
    shown = rows.table_row(known, host())
    assert (shown.reason, shown.policy, shown.rev) == ("no carrier", "explicit", 7)
    known.stopped = "gave up"
    assert rows.table_row(known, host()).reason == "gave up"
    rows.refresh(known, host(Presence.GONE))
    assert rows.table_row(known, host(Presence.GONE)).reason == "it is offline"


def test_the_status_in_a_lost_hosts_stead_is_of_its_boot_and_rev() -> None:
    known = row(status=status())
    rows.refresh(known, host(Presence.GONE))
    said = rows.lost_status(known, host(Presence.GONE), 5.0)
    assert (said.state, said.quality, said.last_known) == (S.UNKNOWN, "lost", S.CONNECTED)
    assert (said.boot, said.rev, said.by, said.since) == ("b2", 7, "orchestrator", 5.0)
    assert said.reason == "host bench is lost: it is offline"


def test_the_database_keeps_the_last_state_that_was_certain() -> None:
    known = row(status=status())
    rows.refresh(known, host())
    assert rows.record(known).observed is S.CONNECTED
    rows.refresh(known, host(Presence.GONE))
    assert rows.record(known).observed is S.CONNECTED


def test_the_planner_is_sure_of_a_device_only_when_all_is_known() -> None:
    known = row(status=status(), meta=Meta(name="can0", device_type="CAN", streams=["can"]))
    rows.refresh(known, host())
    seen = rows.view(known, host())
    assert not seen.certain  # the host has not said who it is
    assert seen.declared == ["can"]
    known.clients = 1
    assert rows.view(known, host()).busy
