"""Calls: each is over exactly once, whether by its reply, its deadline, a lost host or a refusal."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from sat_bus.contract.messages import MAX_TIMEOUT_MS, Reply
from sat_bus.service.tasks import Promise
from sat_bus.transport.bus import Inbound
from sat_bus.transport.calls import Calls, OpenCall, ReplySlot
from sat_toolkit.errors import BadRequest, Busy, Denied, HostLost, Timeout
from tests.unit.fake_bus import FakeBus

OK = Reply(status="ok", result=7)


class Rig:
    def __init__(self, **settings: Any) -> None:
        self.bus = FakeBus()
        self.calls = Calls(self.bus, "lab", "ann", **settings)

    def send(self, outcome: ReplySlot, name: str = "r1", **call: Any) -> bool:
        sent = OpenCall(name, outcome, **call)
        return self.calls.send("x/y", b"{}", sent, expiry=3.0, traceparent="00-aa")

    def waiting(self, name: str = "r1", **call: Any) -> Future[Reply]:
        future: Future[Reply] = Future()
        assert self.send(future, name, **call)
        return future

    def reply(self, name: str = "r1", payload: bytes | None = None, **more: Any) -> None:
        body = OK.encode() if payload is None else payload
        self.calls.replied(name, Inbound(f"sat/1/lab/reply/ann/{name}", body, **more))


def test_an_envelope_names_a_new_id_the_reply_topic_and_the_time_that_there_is() -> None:
    calls = Rig().calls
    first, second = calls.envelope(1.5), calls.envelope(0.0001)
    assert first["reply_to"] == f"sat/1/lab/reply/ann/{first['request_id']}"
    assert first["request_id"] != second["request_id"]
    assert (first["timeout_ms"], second["timeout_ms"]) == (1500, 1)
    assert calls.envelope(1e9)["timeout_ms"] == MAX_TIMEOUT_MS


@pytest.mark.parametrize("kind", [Future, Promise])
def test_a_reply_settles_the_outcome_whatever_it_is(kind: Callable[[], Any]) -> None:
    rig, outcome = Rig(), kind()
    assert rig.send(outcome)
    (sent,) = rig.bus.sent
    assert (sent.topic, sent.payload, sent.expiry, sent.traceparent) == (
        "x/y", b"{}", 3.0, "00-aa",
    )  # fmt: skip
    assert len(rig.calls) == 1
    rig.reply()
    assert outcome.result() == OK
    assert len(rig.calls) == 0


def test_a_reply_that_nobody_waits_for_is_late_and_counted() -> None:
    rig = Rig()
    future = rig.waiting()
    rig.reply("r2")
    assert not future.done()
    rig.reply()
    rig.reply()
    assert rig.calls.counts == {"late_replies": 2}


def test_what_is_retained_or_cleared_is_not_a_reply() -> None:
    rig = Rig()
    future = rig.waiting()
    rig.reply(retain=True)
    rig.reply(payload=b"")
    assert not future.done()
    assert rig.calls.counts == {}


def test_a_reply_that_cannot_be_read_is_the_end_of_the_wait_too() -> None:
    rig = Rig()
    future = rig.waiting()
    rig.reply(payload=b"garbage")
    assert isinstance(future.exception(), BadRequest)
    assert rig.calls.counts == {"malformed_replies": 1}


def test_what_is_past_its_deadline_is_over() -> None:
    rig = Rig()
    soon = rig.waiting("a", deadline=5.0, target="bench", asked="connect")
    later = rig.waiting("b", deadline=6.0)
    never = rig.waiting("c")
    rig.calls.expire(4.999)
    assert not soon.done()
    rig.calls.expire(5.0)
    error = soon.exception()
    assert isinstance(error, Timeout)
    assert str(error) == "bench did not answer connect in time; its effect is unknown"
    assert not later.done()
    assert rig.calls.counts == {"timeouts": 1}
    rig.reply("a")
    assert rig.calls.counts == {"timeouts": 1, "late_replies": 1}
    rig.calls.expire(1e9)
    assert not never.done()


def test_who_waits_for_a_lost_host_is_told_and_nobody_else() -> None:
    rig = Rig()
    here, there = rig.waiting("a", target="bench"), rig.waiting("b", target="other")
    lost = HostLost("gone")
    rig.calls.fail("bench", lost)
    assert here.exception() is lost
    assert not there.done()
    rig.calls.fail(None, lost)
    assert there.exception() is lost
    assert len(rig.calls) == 0


def test_one_outcome_may_end_or_begin_others() -> None:
    """As a task that goes on at once does."""
    rig = Rig()

    class Chain:
        def __init__(self, name: str) -> None:
            self.name = name
            self.heard: list[object] = []

        def set_result(self, reply: Reply, /) -> None: ...

        def set_exception(self, error: Exception, /) -> None:
            self.heard.append(error)
            rig.calls.fail("bench", HostLost("again"))
            rig.send(Chain("next"), f"{self.name}-next", target="bench2")

    chains = [Chain("a"), Chain("b")]
    for chain in chains:
        rig.send(chain, chain.name, target="bench", deadline=1.0)
    rig.calls.fail("bench", HostLost("gone"))
    assert [len(chain.heard) for chain in chains] == [1, 1]
    assert len(rig.calls) == 2
    rig.send(chains[0], "c", target="bench", deadline=1.0)
    rig.send(chains[1], "d", target="bench", deadline=1.0)
    rig.calls.expire(2.0)
    assert [len(chain.heard) for chain in chains] == [2, 2]


def test_what_the_bus_does_not_take_is_not_waited_for() -> None:
    rig = Rig()
    rig.bus.up = False
    future: Future[Reply] = Future()
    assert not rig.send(future)
    assert len(rig.calls) == 0
    assert not future.done()


def test_no_more_than_may_wait_do() -> None:
    rig = Rig(capacity=2)
    rig.waiting("a")
    rig.waiting("b")
    with pytest.raises(Busy, match="2 requests are waiting for their replies already"):
        rig.waiting("c")
    assert len(rig.bus.sent) == 2
    rig.reply("a")
    rig.waiting("c")


def test_a_request_that_was_forgotten_is_over_without_an_outcome() -> None:
    rig = Rig()
    future = rig.waiting()
    call = rig.calls.forget("r1")
    assert call is not None
    assert call.outcome is future
    assert rig.calls.forget("r1") is None
    rig.reply()
    assert not future.done()


def test_what_the_broker_refuses_is_denied_and_what_the_connection_lost_may_have_arrived() -> None:
    rig = Rig()
    future = rig.waiting()
    dropped = rig.bus.sent[0].on_drop
    assert dropped is not None
    dropped("control_unacked")
    assert not future.done()
    dropped("refused")
    error = future.exception()
    assert isinstance(error, Denied)
    assert "does not let ann publish to x/y" in str(error)
    dropped("refused")  # it is over


def test_a_refusal_is_settled_where_the_owner_wants_it() -> None:
    jobs: list[Callable[[], None]] = []
    rig = Rig(post=jobs.append)
    future = rig.waiting()
    dropped = rig.bus.sent[0].on_drop
    assert dropped is not None
    dropped("refused")
    assert not future.done()
    (job,) = jobs
    job()
    assert isinstance(future.exception(), Denied)
