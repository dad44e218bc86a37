"""Requests of clients: what is stored and asked in which order, who is told what, and that each
ends."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sat_bus.contract import topics
from sat_bus.contract.device_key import Key
from sat_bus.contract.messages import Desired, Meta
from sat_bus.transport.bus import Inbound
from sat_orchestrator.fleet.table import Action
from sat_toolkit.core.device_spec import DeviceState
from tests.unit.sat_orchestrator.parts import (
    BOOT,
    CONNECT,
    DRIVER,
    HOST,
    KEY,
    NEW_BOOT,
    OWN,
    SITE,
    Parts,
    S,
)

CAN1 = Key(HOST, DRIVER, "can1")
OTHER = Key("other", DRIVER, "can0")
CONNECTED = Desired(level="connected")


def site(state: DeviceState = S.DISCOVERED, **settings: Any) -> Parts:
    """A host with one device."""
    parts = Parts(**settings)
    parts.host_up()
    parts.device(state)
    return parts


def found(*keys: Key, **more: Any) -> dict[str, Any]:
    listed = [{"driver": key.driver, "device": key.device, "state": "discovered"} for key in keys]
    return {"devices": listed, "errors": {}, **more}


# -- set -------------------------------------------------------------------------------------------


def test_set_stores_first_and_is_answered_before_anything_is_done() -> None:
    parts = site()
    parts.store.slow = True
    reply = parts.set("connected")
    assert [record.explicit for record in parts.store.saved] == [CONNECTED]
    assert parts.replies(reply) == []
    assert parts.row.explicit is None
    parts.store.settle()
    said = parts.reply(reply)
    assert said["status"] == "ok"
    assert said["state"] == "discovered"
    assert said["result"] == {
        "desired": {"level": "connected", "streams": {}}, "policy": "explicit", "held": "",
    }  # fmt: skip
    assert (said["host"], said["boot"]) == ("orchestrator", OWN)
    sent = [each.topic for each in parts.bus.sent]
    assert sent.index(reply) < sent.index(parts.the("connect").topic)
    assert parts.table()["desired"] == {"level": "connected", "streams": {}}


def test_set_connected_takes_the_rules_streams_and_with_streams_exactly_those() -> None:
    parts = site(rules=CONNECT)
    for desired, streams in (
        ("connected", {"can": {"fd": True}}),
        ({"level": "connected", "streams": {}}, {}),
        ("initialized", {}),
    ):
        reply = parts.set(desired)
        assert parts.reply(reply)["result"]["desired"]["streams"] == streams


def test_set_auto_gives_the_device_back_to_policy_and_accepts_no_hardware() -> None:
    parts = site(rules=CONNECT)
    for hardware in ("serial-1", "serial-2"):
        meta = Meta(name="can0", device_type="CAN", hardware_id=hardware)
        parts.steering.apply(parts.fleet.meta(KEY, meta, parts.clock.now))
    reply = parts.set("auto")
    assert parts.reply(reply)["result"]["policy"] == "all"
    assert "serial-2" in parts.reply(reply)["result"]["held"]
    assert parts.store.saved[-1].hardware_id == "serial-1"
    reply = parts.set("connected")
    assert parts.reply(reply)["result"]["held"] == ""
    assert parts.store.saved[-1].hardware_id == "serial-2"
    assert parts.row.hardware_id == "serial-2"


def test_set_that_cannot_be_stored_is_refused_and_changes_nothing() -> None:
    parts = site()
    parts.store.failure = "disk full"
    said = parts.reply(parts.set("connected"))
    assert said["code"] == "internal"
    assert said["message"] == "what is desired could not be stored: disk full"
    assert parts.row.explicit is None
    assert parts.asked() == []


def test_set_for_a_device_that_was_forgotten_meanwhile_is_refused() -> None:
    parts = site()
    parts.store.slow = True
    reply = parts.set("connected")
    parts.fleet.remove(KEY)
    parts.store.settle()
    assert parts.reply(reply)["code"] == "unknown_device"
    assert "forgotten meanwhile" in parts.reply(reply)["message"]


@pytest.mark.parametrize("payload", [b"disconnected", b'"disconnected"'])
def test_set_is_typed_by_hand(payload: bytes) -> None:
    parts = site()
    topic = topics.SET.build(SITE, **KEY._asdict())
    match = topics.parse(SITE, topic)
    assert match is not None
    parts.requests.handle(Inbound(topic, payload, arrived=parts.clock.now), match)
    default = topics.DEVICE_REPLY.build(SITE, **KEY._asdict(), command="set")
    assert parts.reply(default)["status"] == "ok"
    assert parts.row.explicit == Desired(level="disconnected")


def test_set_for_a_lost_host_is_kept_until_it_is_back() -> None:
    parts = site()
    parts.host_gone()
    assert parts.reply(parts.set("connected"))["status"] == "ok"
    assert parts.row.explicit == CONNECTED


@pytest.mark.parametrize(("args", "code"), [("flying", "bad_args"), ({"level": 3}, "bad_args")])
def test_set_of_what_there_is_not(args: Any, code: str) -> None:
    parts = site()
    assert parts.reply(parts.set(args))["code"] == code
    assert parts.store.saved == []


def test_set_names_what_is_known_when_the_device_is_not() -> None:
    parts = site()
    said = parts.reply(parts.set("connected", CAN1))
    assert said["code"] == "unknown_device"
    assert "can0" in said["message"]


# -- the boot that is meant ------------------------------------------------------------------------


def test_what_is_meant_for_another_boot_is_expired() -> None:
    parts = site()
    for reply in (
        parts.set("connected", boot=NEW_BOOT),
        parts.ask("connect", _more={"boot": NEW_BOOT}, device="can0"),
    ):
        said = parts.reply(reply)
        assert said["code"] == "expired"
        assert (
            f"meant for boot {NEW_BOOT} of host bench; the present one is {BOOT}" in said["message"]
        )
    assert parts.store.saved == []
    assert parts.asked() == []
    assert parts.reply(parts.set("connected", boot=BOOT))["status"] == "ok"


# -- lifecycle -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "level"),
    [
        ("initialize", "initialized"),
        ("connect", "connected"),
        ("reset", "disconnected"),
        ("close", "disconnected"),
    ],
)
def test_an_operation_is_stored_asked_and_answered_with_the_hosts_words(
    operation: str, level: str
) -> None:
    parts = site()
    parts.store.slow = True
    reply = parts.ask(operation, device="can0", _more={"traceparent": "00-ab-cd-01"})
    assert parts.store.saved[-1].explicit == Desired.model_validate({"level": level})
    assert parts.asked() == []
    parts.store.settle()
    request = parts.the(operation)
    assert request.body["args"] == {"driver": DRIVER, "device": "can0"}
    assert (request.body["boot"], request.body["epoch"]) == (BOOT, 4)
    assert request.traceparent == request.body["traceparent"] == "00-ab-cd-01"
    assert parts.row.explicit is None
    parts.clock.now += 0.5
    parts.answer(request, {"changed": True}, state="connected", message="Device is there")
    said = parts.reply(reply)
    assert (said["status"], said["state"], said["message"]) == (
        "ok",
        "connected",
        "Device is there",
    )
    assert (said["host"], said["boot"], said["duration_ms"]) == (HOST, BOOT, 500.0)
    assert said["request_id"] == reply.split("/")[-1]
    assert parts.row.explicit == Desired.model_validate({"level": level})


def test_the_host_has_what_is_left_of_the_clients_time_and_a_little_less() -> None:
    parts = site()
    parts.store.slow = True
    parts.ask("close", _ms=3_000, device="can0")
    parts.clock.now += 1.0
    parts.store.settle()
    assert parts.the("close").body["timeout_ms"] == 1_800
    assert parts.the("close").expiry == 2.0


def test_the_planner_keeps_still_while_a_client_acts_and_the_reply_goes_before_its_plan() -> None:
    parts = site(rules=[])
    parts.fleet.set_desired(KEY, Desired(level="connected", streams={"can": {}}), accept=False)
    reply = parts.ask("initialize", device="can0")
    parts.steering.changed(KEY)
    assert [each.topic.split("/")[-1] for each in parts.asked()] == ["initialize"]
    parts.clock.now += 1.0
    parts.answer(parts.the("initialize"), {"changed": True}, state="initialized")
    assert parts.row.clients == 0
    sent = [each.topic for each in parts.bus.sent]
    row = topics.TABLE_ROW.build(SITE, **KEY._asdict())
    assert sent[-2:] == [reply, row]
    assert parts.table()["desired"]["level"] == "initialized"


def test_a_connect_keeps_the_streams_that_are_desired_and_else_takes_the_rules() -> None:
    parts = site(rules=CONNECT)
    parts.refuse(parts.the("connect"), "timeout")
    parts.ask("connect", device="can0")
    assert parts.store.saved[-1].explicit == Desired(
        level="connected", streams={"can": {"fd": True}}
    )
    parts = site()
    parts.fleet.set_desired(KEY, Desired(level="connected", streams={"uart": {}}), accept=False)
    parts.ask("connect", device="can0")
    assert parts.store.saved[-1].explicit == Desired(level="connected", streams={"uart": {}})


def test_only_a_connect_accepts_other_hardware() -> None:
    for operation, hardware in (("connect", "serial-2"), ("close", "serial-1")):
        parts = site()
        for name in ("serial-1", "serial-2"):
            meta = Meta(name="can0", device_type="CAN", hardware_id=name)
            parts.steering.apply(parts.fleet.meta(KEY, meta, parts.clock.now))
        parts.ask(operation, device="can0")
        assert parts.store.saved[-1].hardware_id == hardware
        parts.answer(parts.the(operation), state="connected")
        assert parts.row.hardware_id == hardware


@pytest.mark.parametrize(
    "code",
    ["bad_request", "bad_args", "unknown_driver", "unknown_command", "bad_state", "busy",
     "expired", "denied", "quarantined"],
)  # fmt: skip
def test_what_a_host_refuses_is_not_desired(code: str) -> None:
    parts = site()
    reply = parts.ask("initialize", device="can0")
    parts.refuse(parts.the("initialize"), code, "reset the device first", state="error")
    said = parts.reply(reply)
    assert (said["code"], said["message"], said["state"]) == (
        code,
        "reset the device first",
        "error",
    )
    assert parts.row.explicit is None
    # What was stored is overwritten again.
    parts.keeper.save_again()
    assert [record.explicit for record in parts.store.saved] == [
        Desired(level="initialized"), None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "code", ["driver_error", "timeout", "internal", "indeterminate", "host_lost"]
)
def test_what_a_driver_has_failed_at_stays_desired(code: str) -> None:
    parts = site()
    reply = parts.ask("initialize", device="can0")
    parts.refuse(parts.the("initialize"), code, state="error")
    assert parts.reply(reply)["code"] == code
    assert parts.row.explicit == Desired(level="initialized")


def test_after_a_failure_the_client_has_a_while_to_mend_it_itself() -> None:
    for code, waits in (("driver_error", True), (None, False)):
        parts = site()
        parts.ask("connect", device="can0")
        parts.answer(parts.the("connect"), status="error" if code else "ok", code=code)
        assert (parts.row.client_until > parts.clock.now) is waits


def test_an_operation_that_cannot_be_stored_is_not_asked_for() -> None:
    parts = site()
    parts.store.failure = "disk full"
    said = parts.reply(parts.ask("connect", device="can0"))
    assert (said["code"], said["host"]) == ("internal", "orchestrator")
    assert "disk full" in said["message"]
    assert parts.asked() == []
    assert parts.row.clients == 0
    assert parts.row.client_until > parts.clock.now
    assert parts.row.explicit is None


def test_nothing_is_asked_once_the_deadline_has_passed() -> None:
    parts = site()
    parts.store.slow = True
    reply = parts.ask("connect", _ms=1_000, device="can0")
    parts.clock.now += 1.0
    parts.store.settle()
    assert parts.reply(reply)["code"] == "expired"
    assert "before it could start" in parts.reply(reply)["message"]
    assert parts.asked() == []
    assert (parts.row.clients, parts.row.explicit) == (0, None)


def test_a_host_that_is_lost_while_it_is_stored_is_not_asked() -> None:
    parts = site()
    parts.store.slow = True
    reply = parts.ask("connect", device="can0")
    parts.host_gone()
    parts.store.settle()
    assert parts.reply(reply)["code"] == "host_lost"
    assert parts.asked() == []
    assert (parts.row.clients, parts.row.explicit) == (0, None)


def test_a_lost_host_cannot_be_asked_and_nothing_is_stored() -> None:
    parts = site()
    parts.host_gone()
    for operation in ("initialize", "connect", "reset", "close", "release"):
        said = parts.reply(parts.ask(operation, device="can0"))
        assert said["code"] == "host_lost"
        assert "host bench of can0 is lost: it is offline" in said["message"]
    assert parts.store.saved == []


def test_a_host_that_is_lost_before_it_answers_ends_the_wait() -> None:
    parts = site()
    reply = parts.ask("close", device="can0")
    parts.host_gone()
    said = parts.reply(reply)
    assert (said["code"], said["host"]) == ("host_lost", HOST)
    assert "unknown" in said["message"]
    # It may have been done, so it is desired.
    assert parts.row.explicit == Desired(level="disconnected")


def test_a_silent_host_is_a_timeout_whose_effect_is_unknown() -> None:
    parts = site()
    reply = parts.ask("close", _ms=300, device="can0")
    parts.clock.now += 0.29
    parts.steering.tick()
    assert parts.replies(reply) == []
    parts.clock.now += 0.01
    parts.steering.tick()
    said = parts.reply(reply)
    assert (said["code"], said["host"]) == ("timeout", HOST)
    assert said["message"] == "bench did not answer close in time; its effect is unknown"
    assert parts.row.explicit == Desired(level="disconnected")
    assert len(parts.requests) == 0


def test_a_host_that_refuses_our_epoch_is_asked_once_more_under_a_higher_one() -> None:
    parts = site()
    reply = parts.ask("connect", device="can0")
    parts.leadership.saw(41)
    parts.refuse(parts.the("connect"), "fenced")
    again = parts.the("connect")
    assert again.body["epoch"] == 42
    assert parts.replies(reply) == []
    parts.answer(again, {"changed": True}, state="connected")
    assert parts.reply(reply)["status"] == "ok"


def test_a_request_whose_device_was_forgotten_meanwhile_ends_with_the_hosts_word() -> None:
    parts = site()
    reply = parts.ask("close", device="can0")
    parts.fleet.remove(KEY)
    parts.answer(parts.the("close"), state="disconnected")
    assert parts.reply(reply)["status"] == "ok"
    assert KEY not in parts.fleet.rows


# -- connect looks for what is not known -----------------------------------------------------------


def test_a_connect_of_an_unknown_device_scans_first() -> None:
    parts = site()
    parts.host_up("other")
    reply = parts.ask("connect", device="can1")
    assert parts.store.saved == []
    parts.answer(parts.the("scan", HOST), found(KEY, CAN1))
    assert parts.asked("connect") == []  # the other may have one of this name too
    parts.answer(parts.the("scan", "other"), found())
    parts.answer(parts.the("connect"), {"changed": True}, state="connected")
    said = parts.reply(reply)
    assert (said["status"], said["state"], said["host"]) == ("ok", "connected", HOST)
    assert parts.fleet.rows[CAN1].explicit == CONNECTED


def test_a_connect_scans_only_where_the_device_could_be() -> None:
    parts = site()
    parts.host_up("other")
    parts.ask("connect", device="can1", host="other", driver=DRIVER)
    assert parts.the("scan").topic.split("/")[4] == "other"
    assert parts.the("scan").body["args"] == {"driver": DRIVER}


def test_a_device_that_no_scan_finds_is_unknown_and_near_names_are_told() -> None:
    parts = site()
    reply = parts.ask("connect", device="can00")
    parts.answer(parts.the("scan"), found(KEY))
    said = parts.reply(reply)
    assert said["code"] == "unknown_device"
    assert "did you mean bench/drv_x/can0?" in said["message"]


@pytest.mark.parametrize("operation", ["initialize", "reset", "close"])
def test_only_a_connect_looks_for_the_device(operation: str) -> None:
    parts = site()
    said = parts.reply(parts.ask(operation, device="can1"))
    assert said["code"] == "unknown_device"
    assert parts.asked() == []


def test_without_a_host_nobody_is_asked_to_scan() -> None:
    parts = Parts()
    said = parts.reply(parts.ask("connect", device="can0"))
    assert said["code"] == "unknown_device"
    said = parts.reply(parts.ask("connect", device="can0", driver="drv_none"))
    assert said["code"] == "unknown_driver"


def test_a_device_that_its_host_has_forgotten_is_looked_for_once() -> None:
    parts = site()
    reply = parts.ask("connect", device="can0")
    parts.refuse(parts.the("connect"), "unknown_device")
    assert parts.replies(reply) == []
    parts.answer(parts.the("scan"), found(KEY))
    parts.refuse(parts.the("connect"), "unknown_device", "it is gone again")
    said = parts.reply(reply)
    assert (said["code"], said["message"]) == ("unknown_device", "it is gone again")
    assert parts.row.clients == 0
    assert parts.asked() == []


def test_a_host_that_does_not_know_the_device_is_believed_by_all_but_connect() -> None:
    parts = site()
    reply = parts.ask("close", device="can0")
    parts.refuse(parts.the("close"), "unknown_device")
    assert parts.reply(reply)["code"] == "unknown_device"
    assert parts.asked() == []


def test_a_device_answers_to_three_forms_of_its_name_and_not_to_those_of_two() -> None:
    parts = site(S.CONNECTED)
    for name in ("can0", "drv_x/can0", "bench/drv_x/can0"):
        reply = parts.ask("connect", device=name)
        parts.answer(parts.the("connect"), state="connected")
        assert parts.reply(reply)["status"] == "ok"
    parts.host_up("other")
    parts.device(key=OTHER)
    said = parts.reply(parts.ask("close", device="can0"))
    assert said["code"] == "bad_args"
    assert "bench/drv_x/can0, other/drv_x/can0" in said["message"]
    parts.ask("close", device="can0", host="other")
    assert parts.the("close").topic.split("/")[4] == "other"


# -- release ---------------------------------------------------------------------------------------


def test_a_release_forgives_the_device_and_the_planner_goes_on() -> None:
    parts = site(S.ERROR, rules=CONNECT)
    for reset in parts.asked("reset"):
        parts.refuse(reset, "quarantined", "it has died too often")
    assert parts.row.stopped == "it has died too often"
    reply = parts.ask("release", device="can0")
    request = parts.the("release")
    assert request.body["args"] == {"driver": DRIVER, "device": "can0"}
    assert request.body["timeout_ms"] == 7_800
    parts.answer(request, {"released": True}, state="error")
    assert parts.reply(reply)["result"] == {"released": True}
    assert parts.row.stopped == ""
    sent = [each.topic for each in parts.bus.sent]
    assert sent.index(reply) < sent.index(parts.the("reset").topic, sent.index(reply))


def test_a_release_that_is_refused_forgives_nothing() -> None:
    parts = site()
    parts.row.stopped = "it has died too often"
    reply = parts.ask("release", device="can0")
    parts.refuse(parts.the("release"), "internal")
    assert parts.reply(reply)["code"] == "internal"
    assert parts.row.stopped
    assert parts.reply(parts.ask("release", device="can1"))["code"] == "unknown_device"


def test_a_release_outlives_its_device() -> None:
    parts = site()
    reply = parts.ask("release", device="can0")
    parts.fleet.remove(KEY)
    parts.answer(parts.the("release"))
    assert parts.reply(reply)["status"] == "ok"


# -- scan, list ------------------------------------------------------------------------------------


def test_a_scan_says_what_each_host_has_found() -> None:
    parts = site()
    parts.host_up("other")
    reply = parts.ask("scan", _ms=3_000)
    for scan in parts.asked("scan"):
        assert scan.body["args"] == {}
        assert scan.body["timeout_ms"] == 2_800
    parts.refuse(parts.the("scan", "other"), "internal", "broken")
    assert parts.replies(reply) == []
    parts.answer(parts.the("scan", HOST), found(KEY, CAN1, errors={DRIVER: "no permission"}))
    result = parts.reply(reply)["result"]
    assert [(each["host"], each["device"]) for each in result["devices"]] == [
        (HOST, "can0"), (HOST, "can1"),
    ]  # fmt: skip
    assert result["errors"] == {"other": "internal: broken", "bench/drv_x": "no permission"}
    assert CAN1 in parts.fleet.rows


def test_a_scan_of_one_driver_asks_the_hosts_that_have_it() -> None:
    parts = site()
    parts.ask("scan", driver=DRIVER)
    assert parts.the("scan").body["args"] == {"driver": DRIVER}
    said = parts.reply(parts.ask("scan", driver="drv_none"))
    assert (said["code"], said["message"]) == (
        "unknown_driver", "Driver drv_none not found; known are drv_x",
    )  # fmt: skip
    said = parts.reply(parts.ask("scan", host="nowhere"))
    assert (said["code"], said["message"]) == (
        "unknown_device", "host nowhere is not known; known are bench",
    )  # fmt: skip


def test_a_scan_without_hosts_finds_nothing() -> None:
    parts = Parts()
    assert parts.reply(parts.ask("scan"))["result"] == {"devices": [], "errors": {}}


def test_list_shows_hosts_and_devices() -> None:
    parts = site(S.CONNECTED)
    result = parts.reply(parts.ask("list"))["result"]
    assert [host["host"] for host in result["hosts"]] == [HOST]
    assert [device["observed"] for device in result["devices"]] == ["connected"]
    assert parts.reply(parts.ask("list", host="other"))["result"]["devices"] == []


# -- forget ----------------------------------------------------------------------------------------


def test_what_is_present_is_not_forgotten() -> None:
    parts = site(S.DISCOVERED)
    said = parts.reply(parts.ask("forget", device="can0"))
    assert said["code"] == "bad_state"
    assert "only what is gone can be forgotten" in said["message"]
    assert parts.asked() == []
    assert parts.reply(parts.ask("forget", device="can1"))["code"] == "unknown_device"


def test_a_host_that_is_there_clears_its_device_itself() -> None:
    parts = site(S.UNKNOWN)
    reply = parts.ask("forget", device="can0")
    assert KEY in parts.fleet.rows
    parts.answer(parts.the("forget"))
    assert parts.reply(reply)["result"] == {"forgotten": "bench/drv_x/can0"}
    assert KEY not in parts.fleet.rows
    assert parts.store.deleted == [KEY]
    assert parts.bus.retained(topics.TABLE_ROW.build(SITE, **KEY._asdict())) == b""
    assert parts.bus.retained(topics.DEVICE_STATUS.build(SITE, **KEY._asdict())) is None


@pytest.mark.parametrize("code", ["unknown_device", "unknown_driver"])
def test_a_relic_of_an_earlier_boot_is_cleared_in_the_hosts_stead(code: str) -> None:
    parts = site(S.UNKNOWN)
    reply = parts.ask("forget", device="can0")
    parts.refuse(parts.the("forget"), code)
    assert parts.reply(reply)["status"] == "ok"
    for topic in (topics.DEVICE_STATE, topics.DEVICE_STATUS, topics.DEVICE_META):
        assert parts.bus.retained(topic.build(SITE, **KEY._asdict())) == b""
    assert KEY not in parts.fleet.rows


def test_what_a_host_does_not_forget_stays() -> None:
    parts = site(S.UNKNOWN)
    reply = parts.ask("forget", device="can0")
    parts.refuse(parts.the("forget"), "bad_state", "close it first")
    assert parts.reply(reply)["message"] == "close it first"
    assert KEY in parts.fleet.rows
    assert parts.store.deleted == []


def test_a_device_of_a_lost_host_is_forgotten_without_asking() -> None:
    parts = site(S.CONNECTED)
    parts.host_gone()
    assert parts.reply(parts.ask("forget", device="can0"))["status"] == "ok"
    assert parts.asked() == []
    assert parts.bus.retained(topics.DEVICE_STATUS.build(SITE, **KEY._asdict())) == b""


# -- cleanup ---------------------------------------------------------------------------------------


def test_cleanup_closes_all_that_is_open_side_by_side() -> None:
    parts = site(S.CONNECTED)
    rest = {name: Key(HOST, DRIVER, name) for name in ("a", "b", "c", "d")}
    for name, state in zip(
        rest, (S.INITIALIZED, S.ERROR, S.DISCOVERED, S.DISCONNECTED), strict=True
    ):
        parts.device(state, rest[name])
    reply = parts.ask("cleanup")
    closes = {each.body["args"]["device"]: each for each in parts.asked("close")}
    assert list(closes) == ["can0", "a", "b"]
    parts.answer(closes["b"], state="disconnected")
    parts.refuse(closes["a"], "driver_error", "stuck", state="error")
    assert parts.replies(reply) == []
    parts.clock.now += 1.0  # every row has its turn
    parts.answer(closes["can0"], state="disconnected")
    assert parts.reply(reply)["result"]["devices"] == [
        {"host": HOST, "driver": DRIVER, "device": "can0", "status": "ok", "message": "",
         "state": "disconnected"},
        {"host": HOST, "driver": DRIVER, "device": "a", "status": "error", "code": "driver_error",
         "message": "stuck", "state": "error"},
        {"host": HOST, "driver": DRIVER, "device": "b", "status": "ok", "message": "",
         "state": "disconnected"},
    ]  # fmt: skip
    assert parts.row.explicit == Desired(level="disconnected")
    row = parts.bus.retained(topics.TABLE_ROW.build(SITE, **KEY._asdict()))
    assert json.loads(row or b"")["desired"]["level"] == "disconnected"


def test_cleanup_of_named_devices_closes_each_once() -> None:
    parts = site(S.DISCOVERED)
    reply = parts.ask("cleanup", devices=["can0", "drv_x/can0"])
    parts.answer(parts.the("close"), state="disconnected")
    assert len(parts.reply(reply)["result"]["devices"]) == 1
    assert parts.reply(parts.ask("cleanup", devices=["can0", "can9"]))["code"] == "unknown_device"
    assert parts.reply(parts.ask("cleanup", devices=[]))["result"] == {"devices": []}


def test_cleanup_tells_of_what_could_not_be_asked_for() -> None:
    parts = site(S.CONNECTED)
    parts.store.failure = "disk full"
    (told,) = parts.reply(parts.ask("cleanup"))["result"]["devices"]
    assert (told["device"], told["status"], told["code"]) == ("can0", "error", "internal")
    assert "disk full" in told["message"]
    assert "state" not in told


# -- every request ends, once and on the record ----------------------------------------------------


def test_a_request_that_waits_for_what_never_comes_ends_a_second_after_its_deadline() -> None:
    parts = site()
    parts.store.slow = True
    reply = parts.ask("connect", _ms=2_000, device="can0")
    assert len(parts.requests) == 1
    parts.pass_time(2.9)
    assert parts.replies(reply) == []
    parts.pass_time(0.2)
    said = parts.reply(reply)
    assert (said["code"], said["message"]) == (
        "timeout", "it did not end in time; its effect is unknown",
    )  # fmt: skip
    assert len(parts.requests) == 0
    assert parts.row.clients == 0
    parts.store.settle()
    assert len(parts.replies(reply)) == 1
    assert parts.asked() == []
    # The write that nobody waited for was noticed: what it stored is overwritten.
    parts.keeper.save_again()
    assert [record.explicit for record in parts.store.saved] == [CONNECTED, None]


def test_the_timer_of_a_request_that_is_over_ends_nothing() -> None:
    parts = site()
    reply = parts.ask("close", _ms=1_000, device="can0")
    parts.answer(parts.the("close"), state="disconnected")
    parts.pass_time(5.0)
    assert parts.reply(reply)["status"] == "ok"
    assert parts.loop.errors == 0


def test_who_waits_when_it_stops_is_told_that_nobody_will_know() -> None:
    parts = site(S.CONNECTED)
    waiting = [
        parts.ask("close", device="can0"), parts.ask("cleanup"), parts.ask("scan"),
    ]  # fmt: skip
    parts.lead.leading = False
    parts.requests.abandon()
    for reply in waiting:
        said = parts.reply(reply)
        assert (said["code"], said["host"]) == ("indeterminate", "orchestrator")
        assert "the orchestrator is stopping" in said["message"]
    assert len(parts.requests) == 0
    assert parts.row.clients == 0


def test_no_more_requests_than_fit_are_in_progress() -> None:
    parts = site(max_requests=2)
    first = parts.ask("close", device="can0")
    parts.ask("scan")
    said = parts.reply(parts.ask("list"))
    assert (said["code"], said["retryable"]) == ("busy", True)
    assert said["message"] == "2 requests are in progress; try again later"
    parts.answer(parts.the("close"), state="disconnected")
    assert parts.reply(first)["status"] == "ok"
    assert parts.reply(parts.ask("list"))["status"] == "ok"


def test_what_there_is_not_is_refused_with_what_there_is() -> None:
    parts = site()
    said = parts.reply(parts.ask("dance"))
    assert said["code"] == "unknown_command"
    assert said["message"] == (
        "unknown request 'dance'; the orchestrator takes: cleanup, close, connect, forget, "
        "initialize, list, release, reset, scan"
    )


@pytest.mark.parametrize(
    ("operation", "args"),
    [
        ("connect", {}),
        ("connect", {"device": 7}),
        ("close", {"device": "can0", "hots": "bench"}),
        ("scan", {"host": "no such host!"}),
        ("cleanup", {"devices": "can0"}),
        ("list", {"what": 1}),
        ("forget", {}),
        ("release", {}),
    ],
)
def test_args_that_do_not_fit_are_refused(operation: str, args: dict[str, Any]) -> None:
    parts = site()
    assert parts.reply(parts.ask(operation, **args))["code"] == "bad_args"


def test_a_repeated_request_runs_once() -> None:
    parts = site()
    for _ in range(2):
        parts.ask("scan", _more={"request_id": "same"})
    parts.answer(parts.the("scan"), found())


def test_a_fault_of_our_own_is_answered_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    parts = site()
    parts.row.observed = "nonsense"  # type: ignore[assignment]
    said = parts.reply(parts.ask("list"))
    assert said["code"] == "internal"
    assert parts.loop.errors == 1
    assert "list" not in [entry.operation for entry in parts.store.record if entry.outcome == "ok"]
    assert caplog.text
    assert len(parts.requests) == 0


def test_every_request_is_on_the_record_with_who_asked_for_what_and_what_came_of_it() -> None:
    parts = site()
    parts.ask("initialize", device="can0")
    parts.refuse(parts.the("initialize"), "bad_state", "x" * 600)
    parts.set("disconnected")
    parts.ask("dance")
    parts.ask("list")
    parts.ask("list", driver=7)
    assert [
        (entry.client, entry.operation, entry.target, entry.outcome) for entry in parts.store.record
    ] == [
        ("ann", "initialize", '{"device":"can0"}', "bad_state"),
        ("ann", "set", "bench/drv_x/can0", "ok"),
        ("ann", "dance", "{}", "unknown_command"),
        ("ann", "list", '{"driver":7}', "bad_args"),
    ]
    assert parts.store.record[0].message == "x" * 500
    assert parts.store.record[0].at > 1_700_000_000


def test_what_is_planned_already_does_not_keep_a_client_from_asking() -> None:
    parts = site(rules=CONNECT)
    assert parts.row.in_flight == Action("connect")
    reply = parts.ask("close", device="can0")
    parts.answer(parts.the("close"), state="disconnected")
    assert parts.reply(reply)["status"] == "ok"
