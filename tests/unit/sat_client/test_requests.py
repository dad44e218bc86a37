"""The client's side of requests: a thread blocks until its one outcome is there."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from sat_bus.contract import bin_batch
from sat_bus.contract.messages import Reply
from sat_bus.transport.bus import Inbound
from sat_client import requests
from sat_client.requests import Offline, Requester, check
from sat_toolkit.core.frame_block import FrameBlock
from sat_toolkit.errors import BadRequest, BadState, Denied, Internal, Timeout
from tests.unit.sat_orchestrator.parts import FakeBus, Published

FILTER = "sat/1/lab/reply/ann/+"


class AnsweringBus(FakeBus):
    """A bus on which somebody answers each request at once."""

    def __init__(self) -> None:
        super().__init__()
        self.answer: Callable[[Published], bytes | None] = lambda sent: Reply(status="ok").encode()

    def publish(self, topic: str, payload: bytes, **options: Any) -> bool:
        sent = super().publish(topic, payload, **options)
        if sent and FILTER in self.handlers and not topic.startswith(FILTER[:-1]):
            said = self.answer(self.sent[-1])
            if said is not None:
                self.hear(self.reply_topic(), said)
        return sent

    def reply_topic(self) -> str:
        sent = self.sent[-1]
        if sent.payload.startswith(b"{"):
            topic: str = sent.body["reply_to"]
        else:
            topic = bin_batch.decode(sent.payload)[0]["reply_to"]
        return topic

    def hear(self, topic: str, payload: bytes) -> None:
        self.handlers[FILTER](Inbound(topic, payload))


@pytest.fixture
def bus() -> AnsweringBus:
    return AnsweringBus()


@pytest.fixture
def requester(bus: AnsweringBus) -> Requester:
    requester = Requester(bus, "lab", "ann")
    requester.open()
    return requester


def test_a_request_carries_its_envelope_and_returns_the_reply(
    bus: AnsweringBus, requester: Requester
) -> None:
    reply = requester.exchange("x/y", {"a": 1}, timeout=2.0, boot="b1")
    assert reply.status == "ok"
    (sent,) = bus.sent
    assert (sent.topic, sent.expiry) == ("x/y", 2.0)
    assert (sent.body["args"], sent.body["boot"], sent.body["timeout_ms"]) == ({"a": 1}, "b1", 2000)
    assert len(requester) == 0


def test_frames_travel_packed_with_the_same_envelope(
    bus: AnsweringBus, requester: Requester
) -> None:
    block = FrameBlock.pack([{"id": 1, "data": "00"}])
    assert requester.exchange_packed("x/y", block, timeout=2.0).status == "ok"
    header, sent = bin_batch.decode(bus.sent[0].payload)
    assert header["timeout_ms"] == 2000
    assert list(sent.frames()) == list(block.frames())


def test_a_reply_that_reports_an_error_is_raised_where_that_is_wanted(
    bus: AnsweringBus, requester: Requester
) -> None:
    refusal = Reply(status="error", code=BadState("").code, message="not now")
    bus.answer = lambda sent: refusal.encode()
    assert requester.exchange("x/y", {}).message == "not now"
    with pytest.raises(BadState, match="not now"):
        requester.call("x/y", {})
    with pytest.raises(Internal):
        check(Reply(status="error"))


def test_no_reply_in_time_says_who_may_be_stuck(
    bus: AnsweringBus, requester: Requester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "GRACE", 0.0)
    bus.answer = lambda sent: None
    with pytest.raises(Timeout, match=r"no reply on x/y within 0.001 s.*Is host bench running"):
        requester.exchange("x/y", {}, timeout=0.001, target="bench")
    with pytest.raises(Timeout, match="Is the orchestrator running"):
        requester.exchange("x/y", {}, timeout=0.001)
    assert len(requester) == 0
    bus.hear(bus.reply_topic(), Reply(status="ok").encode())
    assert requester.late == 1


@pytest.mark.parametrize("away", ["connected", "up"])
def test_offline_nothing_is_sent_and_nothing_waits(
    bus: AnsweringBus, requester: Requester, away: str
) -> None:
    setattr(bus, away, False)
    with pytest.raises(Offline, match="nothing was sent"):
        requester.exchange("x/y", {})
    assert bus.sent == []
    assert len(requester) == 0


def test_args_that_json_has_no_form_for_are_refused_before_anything_is_sent(
    bus: AnsweringBus, requester: Requester
) -> None:
    with pytest.raises(BadRequest, match="JSON has no form"):
        requester.exchange("x/y", {"x": object()})
    assert bus.sent == []


def test_a_reply_that_cannot_be_read_is_an_error_and_counted(
    bus: AnsweringBus, requester: Requester
) -> None:
    bus.answer = lambda sent: b"garbage"
    with pytest.raises(BadRequest):
        requester.exchange("x/y", {})
    assert (requester.malformed, requester.late) == (1, 0)


def test_a_refusal_of_the_broker_ends_the_wait(bus: AnsweringBus, requester: Requester) -> None:
    def refuse(sent: Published) -> None:
        assert sent.on_drop is not None
        sent.on_drop("refused")

    bus.answer = refuse
    with pytest.raises(Denied, match="does not let ann publish to x/y"):
        requester.exchange("x/y", {})


def test_closing_ends_every_wait(bus: AnsweringBus, requester: Requester) -> None:
    bus.answer = lambda sent: threading.Thread(target=requester.close).start()
    with pytest.raises(Offline, match="closed"):
        requester.exchange("x/y", {})
    assert bus.ended == [FILTER]


def test_an_echo_is_heard_when_it_has_come_round(bus: AnsweringBus, requester: Requester) -> None:
    heard: list[str] = []
    assert requester.echo("probe", lambda: heard.append("probe"))
    (sent,) = bus.sent
    assert sent.topic == "sat/1/lab/reply/ann/probe"
    assert heard == []
    bus.hear(sent.topic, sent.payload)
    bus.hear(sent.topic, sent.payload)
    assert heard == ["probe"]
    assert requester.late == 1
    requester.echo("never", lambda: heard.append("never"))
    requester.close()
    assert heard == ["probe"]
    bus.up = False
    assert not requester.echo("offline", lambda: None)


def test_what_comes_on_another_topic_is_not_a_reply(
    bus: AnsweringBus, requester: Requester
) -> None:
    bus.hear("somewhere/else", b"{}")
    assert requester.late == 0
