"""The queue before a reader: bounded, in order, for a thread or a task, and ended by its close."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from sat_bus.transport.bus import Handler, Inbound
from sat_client.inbox import Inbox
from tests.unit.client_site import in_thread

DEADLINE = 10.0


class Tap:
    """Stands for the bus: what `push` is given arrives at the inbox."""

    def __init__(self) -> None:
        self.handlers: dict[str, Handler] = {}

    def attach(self, subscription: str, handler: Handler) -> Callable[[], None]:
        self.handlers[subscription] = handler

        def detach() -> None:
            del self.handlers[subscription]

        return detach

    def push(self, topic: str, payload: bytes) -> None:
        self.handlers["x"](Inbound(topic, payload))


@pytest.fixture
def tap() -> Tap:
    return Tap()


def folded(before: list[bytes] | None, message: Inbound) -> list[bytes]:
    return [*(before or []), message.payload]


def test_what_falls_out_is_folded_by_topic_and_handed_out_with_the_next_of_it(tap: Tap) -> None:
    inbox = Inbox(("x",), tap.attach, capacity=2, fold=folded)
    for topic, payload in (("a", b"1"), ("b", b"2"), ("a", b"3"), ("a", b"4")):
        tap.push(topic, payload)
    assert inbox.overflow == 2
    first, second = inbox.get(0.0), inbox.get(0.0)
    assert first is not None
    assert second is not None
    assert (first.inbound.payload, first.fallen) == (b"3", [b"1"])
    assert (second.inbound.payload, second.fallen) == (b"4", None)
    tap.push("b", b"5")
    third = inbox.get(0.0)
    assert third is not None
    assert third.fallen == [b"2"]


def test_close_ends_the_subscriptions_and_who_waits(tap: Tap) -> None:
    inbox: Inbox[None] = Inbox(("x", "y"), tap.attach)
    got: list[object] = []
    thread, _ = in_thread(lambda: got.append(inbox.get(DEADLINE)))
    inbox.close()
    thread.join(DEADLINE)
    assert (got, inbox.closed, tap.handlers) == ([None], True, {})


def test_a_task_is_woken_by_a_message_of_another_thread(tap: Tap) -> None:
    inbox: Inbox[None] = Inbox(("x",), tap.attach)

    async def main() -> bytes:
        waiting = asyncio.create_task(inbox.receive(DEADLINE))
        await asyncio.sleep(0)
        await asyncio.to_thread(tap.push, "a", b"1")
        arrival = await waiting
        assert arrival is not None
        return arrival.inbound.payload

    assert asyncio.run(main()) == b"1"


def test_a_task_that_gives_up_is_not_woken_later(tap: Tap) -> None:
    inbox: Inbox[None] = Inbox(("x",), tap.attach)
    assert asyncio.run(inbox.receive(0.01)) is None
    tap.push("a", b"1")  # its loop is closed
    assert inbox.get(0.0) is not None
