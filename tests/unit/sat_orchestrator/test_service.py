"""The orchestrator on a bus: it leads when the broker has told what it holds, hears what it has
subscribed to, and leaves in order."""

from __future__ import annotations

from typing import Any, cast

from sat_bus.contract import messages as m
from sat_bus.contract import topics
from sat_bus.contract.messages import Desired
from sat_bus.service.loop import WorkLoop
from sat_bus.service.run import STOOD_DOWN
from sat_bus.transport.bus import Inbound
from sat_orchestrator.fleet.table import Record
from sat_orchestrator.service import Orchestrator
from sat_orchestrator.settings import OrchestratorSettings
from sat_orchestrator.store.database import Kept
from sat_toolkit.core.device_spec import DeviceState
from tests.unit.fake_bus import FakeBus
from tests.unit.sat_orchestrator.parts import (
    BOOT,
    DRIVER,
    HOST,
    KEY,
    OWN,
    SITE,
    Clock,
    FakeStore,
    turn,
)

STATE = topics.ORCHESTRATOR_STATE.build(SITE)
ROW = topics.TABLE_ROW.build(SITE, **KEY._asdict())
HEALTH = topics.ORCHESTRATOR_HEALTH.build(SITE)


class Rig:
    def __init__(self, *records: Record, **settings: Any) -> None:
        self.clock = Clock()
        self.loop = WorkLoop("test", clock=self.clock)
        self.bus = FakeBus()
        self.store: Any = cast(Any, FakeStore())
        given = OrchestratorSettings(**{"scan_period_s": 3600.0, **settings})
        kept = Kept(list(records), 3)
        self.service = Orchestrator(given, self.loop, self.bus, self.store, kept, OWN)
        self.service.start()

    def connect(self, up: bool = True) -> None:
        for handler in self.bus.connection:
            handler(up)

    def lead(self) -> Rig:
        self.connect()
        self.pass_time(0.6)
        assert self.service.leading()
        return self

    def pass_time(self, seconds: float) -> None:
        """In steps of a tenth of a second, and each timer that is due."""
        for _ in range(max(1, round(seconds * 10))):
            self.clock.now += 0.1
            turn(self.loop)

    def say(
        self,
        topic: topics.Topic,
        payload: m.Message | bytes,
        *,
        retain: bool = False,
        **levels: str,
    ) -> None:
        body = payload if isinstance(payload, bytes) else payload.encode()
        name = topic.build(SITE, **levels)
        handlers = [
            handler for pattern, handler in self.bus.handlers.items()
            if topics.matches(pattern, name) and pattern not in self.bus.ended
        ]  # fmt: skip
        for handler in handlers:
            handler(Inbound(name, body, retain))

    def host_up(self) -> None:
        birth = m.Birth(
            boot=BOOT, family="can", drivers=[m.DriverInfo(name=DRIVER)], manifest=m.Manifest(count=1, rev=1),
            epoch_seen=0, version="0", clock=0.0,
        )  # fmt: skip
        self.say(topics.HOST_STATE, m.HostState(state="ready", boot=BOOT), host=HOST)
        self.say(topics.HOST_BIRTH, birth, host=HOST)
        self.say(topics.HOST_HEARTBEAT, m.Heartbeat(boot=BOOT, n=1, mono_ms=1), host=HOST)
        self.say(topics.DEVICE_META, m.Meta(name="can0", device_type="CAN"), **KEY._asdict())
        self.status("connected")

    def status(self, state: str, rev: int = 1) -> None:
        status = m.Status(
            state=DeviceState(state), previous=DeviceState.UNKNOWN, since=0.0, rev=rev, boot=BOOT, by="host"
        )  # fmt: skip
        self.say(topics.DEVICE_STATUS, status, **KEY._asdict())

    def listed(self) -> list[dict[str, Any]]:
        self.say(topics.ORCHESTRATOR_REQUEST, b"{}", op="list")
        answer = topics.ORCHESTRATOR_REPLY.build(SITE, op="list")
        devices: list[dict[str, Any]] = self.sent(answer)[-1]["result"]["devices"]
        return devices

    def sent(self, topic: str) -> list[dict[str, Any]]:
        return [each.body for each in self.bus.sent if each.topic == topic and each.payload]


# -- leading ---------------------------------------------------------------------------------------


def test_it_leads_when_the_broker_has_been_quiet_for_a_while() -> None:
    rig = Rig()
    rig.pass_time(3.0)
    assert rig.store.epochs == []
    rig.connect()
    rig.pass_time(0.3)
    rig.say(topics.HOST_STATE, m.HostState(state="ready", boot=BOOT), host=HOST, retain=True)
    rig.pass_time(0.4)
    assert not rig.service.leading()
    rig.pass_time(0.2)
    assert rig.store.epochs == [4]
    assert rig.service.leading()
    assert rig.sent(STATE) == [{"state": "ready", "id": OWN, "epoch": 4}]
    rig.pass_time(2.0)
    assert rig.store.epochs == [4]


def test_it_does_not_wait_longer_than_five_seconds_for_quiet() -> None:
    rig = Rig()
    rig.connect()
    for _ in range(12):
        assert not rig.service.leading()
        rig.say(topics.HOST_STATE, m.HostState(state="ready", boot=BOOT), host=HOST, retain=True)
        rig.pass_time(0.4)
    rig.say(topics.HOST_STATE, m.HostState(state="ready", boot=BOOT), host=HOST, retain=True)
    rig.pass_time(0.4)
    assert rig.service.leading()


def test_before_it_leads_it_takes_no_requests() -> None:
    rig = Rig()
    rig.connect()
    topic = topics.ORCHESTRATOR_REQUEST.filters(SITE)[0]
    assert topic not in rig.bus.handlers
    rig.pass_time(0.6)
    assert topic in rig.bus.handlers
    assert topics.SET.filters(SITE)[0] in rig.bus.handlers


def test_what_was_wanted_before_it_led_is_wanted_again() -> None:
    rig = Rig()
    rig.connect()
    rig.host_up()
    scan = topics.HOST_REQUEST.build(SITE, host=HOST, op="scan")
    assert rig.sent(scan) == []
    rig.pass_time(1.0)
    assert rig.service.leading()
    assert len(rig.sent(scan)) == 1


def test_another_one_with_a_higher_epoch_ends_it() -> None:
    rig = Rig().lead()
    said = m.OrchestratorState(state="ready", id="zoe", epoch=9)
    rig.say(topics.ORCHESTRATOR_STATE, said)
    assert not rig.service.leading()
    assert rig.loop.status == STOOD_DOWN


def test_a_will_that_hides_it_is_overwritten_and_a_cleared_state_is_not_a_word() -> None:
    rig = Rig().lead()
    rig.say(topics.ORCHESTRATOR_STATE, b"")
    assert len(rig.sent(STATE)) == 1
    rig.say(topics.ORCHESTRATOR_STATE, m.OrchestratorState(state="offline", id="zoe", epoch=9))
    assert len(rig.sent(STATE)) == 2


# -- what comes in ---------------------------------------------------------------------------------


def test_hosts_and_devices_are_heard() -> None:
    rig = Rig().lead()
    rig.host_up()
    (device,) = rig.listed()
    assert (device["observed"], device["quality"]) == ("connected", "good")
    assert device["meta"]["device_type"] == "CAN"
    rig.say(topics.DEVICE_META, b"", **KEY._asdict())
    assert "meta" not in rig.listed()[0]
    rig.say(topics.DEVICE_STATUS, b"", **KEY._asdict())
    assert rig.listed()[0]["quality"] == "lost"


def test_a_topic_that_is_cleared_makes_no_row_and_no_host() -> None:
    rig = Rig().lead()
    for topic in (topics.DEVICE_STATUS, topics.DEVICE_META):
        rig.say(topic, b"", **KEY._asdict())
    for topic in (topics.HOST_STATE, topics.HOST_BIRTH):
        rig.say(topic, b"", host=HOST)
    assert rig.listed() == []
    assert rig.sent(HEALTH)[-1]["drops"].get("garbage", 0) == 0


def test_garbage_is_counted_and_ends_nothing() -> None:
    rig = Rig().lead()
    rig.say(topics.HOST_STATE, b"\0", host=HOST)
    rig.say(topics.HOST_BIRTH, b"{}", host=HOST)
    (handler, *_) = rig.bus.handlers.values()
    handler(Inbound("sat/1/lab/of/another/kind", b"{}"))
    handler(Inbound(topics.HOST_HEALTH.build(SITE, host=HOST), b"{}"))
    rig.pass_time(1.0)
    assert rig.sent(HEALTH)[-1]["drops"]["garbage"] == 2
    assert rig.sent(HEALTH)[-1]["drops"]["bad_topic"] == 2


def test_a_set_is_answered_and_a_reply_of_a_host_finds_who_waits() -> None:
    rig = Rig().lead()
    rig.host_up()
    rig.say(topics.ORCHESTRATOR_REQUEST, b'{"device": "can0"}', op="close")
    assert rig.service.waiting == 1
    (asked,) = rig.sent(topics.HOST_REQUEST.build(SITE, host=HOST, op="close"))
    reply = m.Reply(status="ok", state=DeviceState.DISCONNECTED)
    rig.say(topics.REPLY, reply, client=OWN, id=asked["request_id"])
    said = rig.sent(topics.ORCHESTRATOR_REPLY.build(SITE, op="close"))[-1]
    assert (said["status"], said["state"]) == ("ok", "disconnected")
    assert rig.service.waiting == 0
    rig.say(topics.SET, b"auto", **KEY._asdict())
    res = topics.DEVICE_REPLY.build(SITE, **KEY._asdict(), command="set")
    assert rig.sent(res)[-1]["status"] == "ok"


def test_a_request_that_waited_for_the_loop_has_less_time_left() -> None:
    rig = Rig().lead()
    rig.host_up()
    topic = topics.ORCHESTRATOR_REQUEST.build(SITE, op="close")
    body = b'{"args": {"device": "can0"}, "timeout_ms": 5000}'
    late = Inbound(topic, body, arrived=rig.clock.now - 2.0)
    rig.bus.handlers[topics.ORCHESTRATOR_REQUEST.filters(SITE)[0]](late)
    (asked,) = rig.sent(topics.HOST_REQUEST.build(SITE, host=HOST, op="close"))
    assert 2_500 <= asked["timeout_ms"] <= 2_800


def test_the_rows_of_an_earlier_orchestrator_are_cleared_when_nothing_stands_behind_them() -> None:
    rig = Rig()
    rig.connect()
    row = m.TableRow(observed=DeviceState.UNKNOWN, desired=None, quality="lost", policy="", rev=0)
    relic = {**KEY._asdict(), "device": "relic"}
    rig.say(topics.TABLE_ROW, row, retain=True, **KEY._asdict())
    rig.say(topics.TABLE_ROW, row, retain=True, **relic)
    rig.say(topics.TABLE_ROW, row, **{**relic, "device": "news"})
    rig.say(topics.TABLE_ROW, b"", retain=True, **{**relic, "device": "cleared"})
    rig.pass_time(0.6)
    rig.host_up()
    rig.pass_time(4.8)
    assert rig.bus.retained(topics.TABLE_ROW.build(SITE, **relic)) is None
    rig.pass_time(0.4)
    assert rig.bus.retained(topics.TABLE_ROW.build(SITE, **relic)) == b""
    assert rig.bus.retained(ROW)
    for other in ("news", "cleared"):
        assert rig.bus.retained(topics.TABLE_ROW.build(SITE, **{**relic, "device": other})) is None
    assert topics.TABLE_ROW.filters(SITE)[0] in rig.bus.ended


# -- time and connection ---------------------------------------------------------------------------


def test_a_lost_connection_stops_plans_and_a_new_one_says_again_who_leads() -> None:
    rig = Rig().lead()
    rig.host_up()
    rig.connect(False)
    healths = len(rig.sent(HEALTH))
    rig.pass_time(10.0)
    assert len(rig.sent(HEALTH)) == healths
    rig.connect()
    assert len(rig.sent(STATE)) == 2
    rig.pass_time(1.0)
    assert rig.listed()[0]["quality"] == "good"


def test_a_process_that_stood_still_calls_no_host_lost() -> None:
    rig = Rig().lead()
    rig.host_up()
    rig.clock.now += 60.0
    rig.pass_time(0.3)
    assert rig.listed()[0]["quality"] == "good"
    rig.pass_time(3.0)
    assert rig.listed()[0]["quality"] == "lost"


def test_once_a_second_it_plans_notes_saves_and_tells_its_health() -> None:
    rig = Rig(policy=[{"match": "*", "level": "disconnected"}]).lead()
    rig.connect(False)
    rig.host_up()
    rig.connect()
    rig.pass_time(1.1)
    close = topics.HOST_REQUEST.build(SITE, host=HOST, op="close")
    assert len(rig.sent(close)) == 1
    assert rig.store.seen == [(KEY, DeviceState.CONNECTED, 1)]
    health = rig.sent(HEALTH)[-1]
    assert health["boot"] == OWN
    assert health["queues"].items() >= {"store": 0, "calls": 2, "requests": 0}.items()
    assert health["drops"]["desired_failed"] == 1


def test_what_the_database_does_not_hold_is_stored_in_the_next_turn() -> None:
    rig = Rig(Record(KEY, explicit=Desired(level="connected"))).lead()
    rig.host_up()
    rig.pass_time(1.1)
    assert rig.store.saved == []
    meta = m.Meta(name="can0", device_type="CAN", hardware_id="serial-1")
    rig.say(topics.DEVICE_META, meta, **KEY._asdict())
    rig.pass_time(1.1)
    assert [record.hardware_id for record in rig.store.saved] == ["serial-1"]


def test_it_says_in_words_what_it_does() -> None:
    rig = Rig().lead()
    rig.host_up()
    assert rig.service.words() == "leading the site lab, devices: 1"
    assert rig.service.connected()
    rig.bus.connected = False
    assert not rig.service.connected()


def test_it_leaves_in_order() -> None:
    rig = Rig().lead()
    rig.host_up()
    rig.say(topics.ORCHESTRATOR_REQUEST, b'{"device": "can0"}', op="close")
    rig.service.stop()
    reply = topics.ORCHESTRATOR_REPLY.build(SITE, op="close")
    assert rig.sent(reply)[-1]["code"] == "indeterminate"
    assert rig.sent(STATE)[-1] == {"state": "offline", "id": OWN, "epoch": 4}
    order = [each.topic for each in rig.bus.sent]
    assert order[-2:] == [reply, STATE]
    assert rig.store.seen == [(KEY, DeviceState.CONNECTED, 1)]
    assert rig.bus.ended[-1] == "closed"
    assert rig.store.closed
    assert not rig.service.leading()


def test_who_never_led_says_no_goodbye() -> None:
    rig = Rig()
    rig.service.stop()
    assert rig.sent(STATE) == []
    assert rig.store.closed
