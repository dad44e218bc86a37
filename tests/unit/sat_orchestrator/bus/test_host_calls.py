"""Requests to hosts: boot, epoch and a head start for the host; and always a reply in its name."""

from __future__ import annotations

from typing import Any

import pytest

from sat_bus.contract.messages import Reply
from sat_bus.service.tasks import Promise
from sat_orchestrator.bus import host_calls
from tests.unit.sat_orchestrator.parts import BOOT, HOST, Parts


def ask(parts: Parts, timeout: float = 10.0, **more: Any) -> Promise[Reply]:
    return parts.calls.ask(HOST, BOOT, "connect", {"device": "can0"}, timeout, **more)


def test_a_host_is_told_boot_epoch_and_a_little_less_time_than_we_wait() -> None:
    parts = Parts()
    ask(parts, traceparent="00-aa")
    request = parts.the("connect", HOST)
    assert request.body["args"] == {"device": "can0"}
    assert (request.body["boot"], request.body["epoch"]) == (BOOT, 4)
    assert request.body["timeout_ms"] == 9_800
    assert request.expiry == 10.0
    assert request.traceparent == request.body["traceparent"] == "00-aa"
    parts = Parts()
    ask(parts, 0.4)
    assert parts.the("connect").body["timeout_ms"] == 300
    assert "traceparent" not in parts.the("connect").body


def test_a_reply_is_the_outcome() -> None:
    parts = Parts()
    promise = ask(parts)
    parts.answer(parts.the("connect"), {"changed": True})
    assert promise.result().result == {"changed": True}


@pytest.mark.parametrize(
    ("payload", "code", "words"),
    [(b"garbage", "indeterminate", "the reply of bench cannot be read")],
)
def test_a_reply_that_cannot_be_read_says_nothing_of_the_effect(
    payload: bytes, code: str, words: str
) -> None:
    parts = Parts()
    promise = ask(parts)
    parts.hear(parts.the("connect"), payload)
    reply = promise.result()
    assert (reply.code, reply.host, reply.boot) == (code, HOST, BOOT)
    assert words in reply.message


def test_no_reply_is_a_timeout_in_the_hosts_name() -> None:
    parts = Parts()
    promise = ask(parts, 2.0)
    parts.calls.expire(parts.clock.now + 1.99)
    assert not promise.settled
    parts.calls.expire(parts.clock.now + 2.0)
    reply = promise.result()
    assert (reply.status, reply.code, reply.host, reply.boot) == ("error", "timeout", HOST, BOOT)


def test_what_cannot_be_sent_is_expired_at_once() -> None:
    parts = Parts()
    parts.bus.up = False
    reply = ask(parts).result()
    assert reply.code == "expired"
    assert reply.message == (
        "the request to bench could not be sent: the broker is away or its queue full"
    )


def test_no_more_than_may_wait_for_hosts_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_calls, "CAPACITY", 1)
    parts = Parts()
    first = ask(parts)
    assert ask(parts).result().code == "expired"
    assert not first.settled
    assert len(parts.bus.sent) == 1


def test_a_refusal_of_the_broker_is_told_on_the_loop() -> None:
    parts = Parts()
    promise = ask(parts)
    dropped = parts.bus.sent[0].on_drop
    assert dropped is not None
    dropped("refused")
    assert not promise.settled
    parts.pass_time(0.0)
    assert promise.result().code == "denied"


def test_a_fault_of_our_own_is_a_reply_too() -> None:
    promise = host_calls.HostReply(HOST, BOOT)
    promise.set_exception(KeyError("x"))
    assert (promise.result().code, promise.result().message) == ("internal", "KeyError: 'x'")
