"""The request desk: what may run, who is told what, and that it is told once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sat_bus.contract import messages, topics
from sat_bus.service.request_desk import Accepted, RequestDesk
from sat_bus.transport.bus import Inbound
from sat_toolkit.core.device_spec import DeviceState
from sat_toolkit.errors import BadState

SEND = "sat/1/lab/dev/bench-can/drv_x/can0/cmd/send"
SCAN = "sat/1/lab/orch/req/scan"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Outbox:
    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.correlations: list[bytes | None] = []
        self.up = True

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        correlation: bytes | None = None,
        traceparent: str | None = None,
    ) -> bool:
        self.sent.append((topic, json.loads(payload)))
        self.correlations.append(correlation)
        return self.up

    @property
    def last(self) -> tuple[str, dict[str, Any]]:
        return self.sent[-1]


class Rig:
    def __init__(self, **settings: Any) -> None:
        self.clock, self.outbox = Clock(), Outbox()
        self.desk = RequestDesk("lab", "bench-can", "boot-1", self.outbox, self.clock, **settings)

    def accept(
        self, payload: Any, topic: str = SEND, *, parser: Any = messages.parse_request, **more: Any
    ):
        arrived = more.pop("arrived", None)
        raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        match = topics.parse("lab", topic)
        assert match is not None
        return self.desk.accept(Inbound(topic, raw, **more), match, parser=parser, arrived=arrived)

    def accepted(self, payload: Any, topic: str = SEND, **more: Any) -> Accepted:
        accepted = self.accept(payload, topic, **more)
        assert accepted is not None, self.outbox.sent
        return accepted


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_bare_args_are_answered_on_the_default_topic(rig: Rig) -> None:
    accepted = rig.accepted({"id": "0x123"})
    assert accepted.request.args == {"id": "0x123"}
    assert accepted.client == "anonymous"
    assert accepted.deadline == 1010.0
    rig.clock.now += 0.25
    assert accepted.ok({"sent": 1}, state=DeviceState.CONNECTED)
    topic, reply = rig.outbox.last
    assert topic == "sat/1/lab/dev/bench-can/drv_x/can0/res/send"
    assert reply["status"] == "ok"
    assert reply["result"] == {"sent": 1}
    assert reply["duration_ms"] == 250.0
    assert (reply["host"], reply["boot"], reply["state"]) == ("bench-can", "boot-1", "connected")


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        ("sat/1/lab/dev/h/d/a%2Fb/cmd/send/me", "sat/1/lab/dev/h/d/a%2Fb/res/send"),
        ("sat/1/lab/dev/h/d/x/set", "sat/1/lab/dev/h/d/x/res/set"),
        ("sat/1/lab/dev/h/d/x/in/can/json", "sat/1/lab/dev/h/d/x/res/in"),
        ("sat/1/lab/host/h/req/scan", "sat/1/lab/host/h/res/scan"),
        ("sat/1/lab/orch/req/list/me", "sat/1/lab/orch/res/list"),
    ],
)
def test_every_request_topic_has_a_default_reply_topic(rig: Rig, topic: str, expected: str) -> None:
    match = topics.parse("lab", topic)
    assert match is not None
    assert rig.desk.default_topic(match) == expected


def test_exactly_one_answer(rig: Rig) -> None:
    accepted = rig.accepted({})
    assert accepted.fail(BadState("not now"))
    assert accepted.answered
    assert not accepted.ok()
    assert len(rig.outbox.sent) == 1
    assert rig.outbox.last[1]["code"] == "bad_state"
    assert rig.outbox.last[1]["message"] == "not now"


def test_reply_to_and_its_client_are_honoured(rig: Rig) -> None:
    accepted = rig.accepted(
        {"args": {}, "request_id": "r1", "reply_to": "sat/1/lab/reply/ann/r1", "timeout_ms": 500}
    )
    assert accepted.client == "ann"
    assert accepted.deadline == 1000.5
    accepted.ok()
    assert rig.outbox.last[0] == "sat/1/lab/reply/ann/r1"
    assert rig.outbox.last[1]["request_id"] == "r1"


def test_the_topics_client_level_names_who_asks(rig: Rig) -> None:
    assert rig.accepted({}, SEND + "/bob").client == "bob"


@pytest.mark.parametrize(
    ("topic", "reply_to"),
    [
        (SEND, "sat/1/lab/dev/bench-can/drv_x/can0/cmd/stop"),
        (SEND, "elsewhere"),
        (SEND, "sat/1/other/reply/ann/1"),
        (SEND, "sat/1/lab/reply/ann/+"),
        (SEND, ""),
        (SEND + "/bob", "sat/1/lab/reply/ann/1"),
    ],
)
def test_a_foreign_reply_topic_is_refused_and_never_written_to(
    rig: Rig, topic: str, reply_to: str
) -> None:
    assert rig.accept({"args": {}, "reply_to": reply_to}, topic) is None
    assert rig.outbox.last[0] == "sat/1/lab/dev/bench-can/drv_x/can0/res/send"
    assert rig.outbox.last[1]["code"] == "denied"
    assert "reply/" in rig.outbox.last[1]["message"]


def test_response_topic_and_correlation(rig: Rig) -> None:
    rig.accepted({}, response_topic="sat/1/lab/reply/ann/9", correlation=b"\x01").ok()
    assert rig.outbox.last[0] == "sat/1/lab/reply/ann/9"
    assert rig.outbox.correlations == [b"\x01"]


def test_a_response_topic_elsewhere_is_passed_over(rig: Rig) -> None:
    rig.accepted({}, response_topic="my/own/place").ok()
    assert rig.outbox.last[0] == "sat/1/lab/dev/bench-can/drv_x/can0/res/send"


@pytest.mark.parametrize(
    "payload",
    [
        b"{",
        b"\xff\xfe",
        b"[1]",
        b'"text"',
        b"42",
        b'{"a":1,"a":2}',
        b'{"a": NaN}',
        b"[" * 5000,
        b'{"args": 3}',
    ],
)
def test_garbage_is_answered_bad_request(rig: Rig, payload: bytes) -> None:
    assert rig.accept(payload) is None
    assert rig.outbox.last[1]["code"] == "bad_request"
    assert rig.outbox.last[1]["message"]
    assert rig.desk.counts["malformed"] == 1


def test_a_malformed_envelope_is_answered_where_it_asks(rig: Rig) -> None:
    rig.accept(
        {"args": {}, "request_id": "r7", "reply_to": "sat/1/lab/reply/ann/r7", "surprise": 1}
    )
    topic, reply = rig.outbox.last
    assert topic == "sat/1/lab/reply/ann/r7"
    assert reply["request_id"] == "r7"
    assert "surprise" in reply["message"]


def test_a_malformed_envelope_cannot_choose_a_foreign_reply_topic(rig: Rig) -> None:
    rig.accept({"args": {}, "reply_to": "sat/1/lab/reply/ann/r7", "surprise": 1}, SEND + "/bob")
    assert rig.outbox.last[0] == "sat/1/lab/dev/bench-can/drv_x/can0/res/send"


def test_an_empty_payload_is_counted_and_ignored(rig: Rig) -> None:
    assert rig.accept(b"") is None
    assert rig.outbox.sent == []
    assert rig.desk.counts["empty"] == 1


def test_a_retained_request_is_refused(rig: Rig) -> None:
    assert rig.accept({"args": {}, "request_id": "r1"}, retain=True) is None
    assert rig.outbox.last[1]["code"] == "bad_request"
    assert "retain" in rig.outbox.last[1]["message"]
    rig.accepted({"args": {}, "request_id": "r1"})  # the refusal did not use the id up


def test_the_same_id_again_gets_the_stored_reply(rig: Rig) -> None:
    body = {"args": {"n": 1}, "request_id": "r1"}
    rig.accepted(body).ok({"n": 1})
    assert rig.accept(body) is None
    assert rig.outbox.sent[0] == rig.outbox.sent[1]
    assert rig.desk.counts["repeated"] == 1


def test_a_repetition_in_progress_waits_for_the_one_outcome(rig: Rig) -> None:
    body = {"args": {}, "request_id": "r1"}
    first = rig.accepted(body)
    assert rig.accept(body) is None
    assert rig.accept(body, response_topic="sat/1/lab/reply/ann/1") is None
    assert rig.outbox.sent == []
    first.ok()
    assert [topic for topic, _ in rig.outbox.sent] == [
        "sat/1/lab/dev/bench-can/drv_x/can0/res/send",
        "sat/1/lab/reply/ann/1",
    ]


def test_the_same_id_with_another_body_is_refused(rig: Rig) -> None:
    rig.accepted({"args": {"n": 1}, "request_id": "r1"})
    assert rig.accept({"args": {"n": 2}, "request_id": "r1"}) is None
    assert rig.outbox.last[1]["code"] == "bad_request"
    assert "another body" in rig.outbox.last[1]["message"]


def test_ids_belong_to_their_topic(rig: Rig) -> None:
    body = {"args": {}, "request_id": "r1"}
    rig.accepted(body)
    rig.accepted(body, SEND + "/bob")
    rig.accepted(body, SCAN)


def test_without_an_id_nothing_is_deduplicated(rig: Rig) -> None:
    rig.accepted({})
    rig.accepted({})


def test_replies_are_kept_for_ten_minutes_and_then_forgotten(rig: Rig) -> None:
    body = {"args": {}, "request_id": "r1"}
    rig.accepted(body).ok({"n": 1})
    rig.clock.now += 599
    rig.accepted({"args": {}, "request_id": "r2"})  # what is old goes when another one comes
    assert rig.accept(body) is None
    assert rig.outbox.last[1]["result"] == {"n": 1}
    rig.clock.now += 2
    rig.accepted({"args": {}, "request_id": "r3"})
    rig.accepted(body)


def test_the_memory_is_bounded_and_keeps_what_is_in_progress() -> None:
    rig = Rig(capacity=2)
    running = rig.accepted({"args": {}, "request_id": "running"})
    rig.accepted({"args": {}, "request_id": "done"}).ok()
    rig.accepted({"args": {}, "request_id": "next"})
    assert rig.accept({"args": {}, "request_id": "running"}) is None  # still known
    assert rig.accept({"args": {}, "request_id": "over"}) is None
    assert rig.outbox.last[1]["code"] == "busy"
    assert rig.outbox.last[1]["retryable"] is True
    running.ok()
    rig.accepted({"args": {}, "request_id": "over"})


def test_another_boots_request_is_expired(rig: Rig) -> None:
    assert rig.accept({"args": {}, "boot": "boot-0"}) is None
    assert rig.outbox.last[1]["code"] == "expired"
    rig.accepted({"args": {}, "boot": "boot-1"})
    assert Rig(own_boot_only=False).accept({"args": {}, "boot": "boot-0"}) is not None


def test_a_request_that_waited_too_long_never_starts(rig: Rig) -> None:
    assert rig.accept({"args": {}, "timeout_ms": 100}, arrived=999.0) is None
    assert rig.outbox.last[1]["code"] == "expired"


@pytest.mark.parametrize("result", [{"x": object()}, "x" * 300_000])
def test_a_result_that_cannot_be_sent_is_an_error_and_no_silence(rig: Rig, result: Any) -> None:
    rig.accepted({"args": {}, "request_id": "r1"}).ok(result)
    assert rig.outbox.last[1]["code"] == "internal"
    assert rig.outbox.last[1]["request_id"] == "r1"


def test_an_unsent_reply_is_counted(rig: Rig) -> None:
    rig.outbox.up = False
    rig.accepted({}).ok()
    assert rig.desk.counts["unsent"] == 1


@pytest.mark.parametrize(
    "payload", [b"connected", b'"connected"', b'{"level":"connected"}', b" connected\n"]
)
def test_the_forms_of_set(rig: Rig, payload: bytes) -> None:
    accepted = rig.accepted(payload, "sat/1/lab/dev/h/d/x/set", parser=messages.parse_set_request)
    assert messages.parse_desired(accepted.request) == messages.Desired(level="connected")


@pytest.mark.parametrize(
    ("topic", "operation", "target"),
    [
        (SEND + "/bob", "send", "bench-can/drv_x/can0"),
        ("sat/1/lab/dev/h/d/a%2Fb/set", "set", "h/d/a/b"),
        ("sat/1/lab/dev/h/d/x/in/can/json", "in", "h/d/x"),
        ("sat/1/lab/host/h/req/scan", "scan", "h"),
        (SCAN, "scan", ""),
    ],
)
def test_a_request_knows_what_it_asks_for_and_of_whom(
    rig: Rig, topic: str, operation: str, target: str
) -> None:
    accepted = rig.accepted({}, topic)
    assert (accepted.operation, accepted.target) == (operation, target)


def test_a_request_knows_its_time_and_its_outcome(rig: Rig) -> None:
    accepted = rig.accepted({"args": {}, "timeout_ms": 2_000})
    assert accepted.left == 2.0
    assert accepted.outcome is None
    rig.clock.now += 2.5
    assert accepted.left == -0.5
    accepted.fail(BadState("not now"))
    accepted.ok()
    assert accepted.outcome is not None
    assert (accepted.outcome.code, accepted.outcome.duration_ms) == ("bad_state", 2500.0)


def test_the_reply_of_another_becomes_that_of_this_request(rig: Rig) -> None:
    accepted = rig.accepted({"args": {}, "request_id": "r1"})
    rig.clock.now += 0.25
    other = messages.Reply(request_id="x9", status="ok", host="bench", boot="b", duration_ms=7.0)
    assert accepted.reply(other)
    said = rig.outbox.last[1]
    assert (said["request_id"], said["duration_ms"]) == ("r1", 250.0)
    assert (said["host"], said["boot"]) == ("bench", "b")
    assert not accepted.reply(other)
