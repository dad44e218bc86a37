"""The bounded queue before a reader: order, overflow, and readers that are threads or tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sat_bus.transport.bus import Handler, Inbound
from sat_client.inbox import Inbox


class Tap:
    def __init__(self) -> None:
        self.handlers: dict[str, Handler] = {}

    def attach(self, subscription: str, handler: Handler) -> Callable[[], None]:
        self.handlers[subscription] = handler
        return lambda: self.detach(subscription)

    def detach(self, subscription: str) -> None:
        del self.handlers[subscription]

    def push(self, *payloads: bytes, topic: str = "t") -> None:
        for payload in payloads:
            self.handlers["x"](Inbound(topic, payload))


def inbox(tap: Tap, **options: object) -> Inbox[int]:
    return Inbox(("x", "y"), tap.attach, **options)  # type: ignore[arg-type]


def count(before: int | None, _inbound: Inbound) -> int:
    return (before or 0) + 1


def test_messages_come_in_their_order_and_none_when_there_is_none() -> None:
    tap = Tap()
    box = inbox(tap)
    tap.push(b"1", b"2")
    arrivals = [box.get(0.0) for _ in range(3)]
    assert [a.inbound.payload if a else None for a in arrivals] == [b"1", b"2", None]


def test_the_oldest_fall_out_and_are_folded_by_topic() -> None:
    tap = Tap()
    box = inbox(tap, capacity=2, fold=count)
    tap.push(b"1", topic="a")
    tap.push(b"2", b"3", b"4", b"5", topic="b")
    assert box.overflow == 3
    first, second = box.get(0.0), box.get(0.0)
    assert first is not None
    assert second is not None
    assert (first.inbound.payload, first.fallen) == (b"4", 2)
    assert (second.inbound.payload, second.fallen) == (b"5", None)
    tap.push(b"6", topic="a")
    third = box.get(0.0)
    assert third is not None
    assert third.fallen == 1


def test_closing_ends_listening_and_every_wait() -> None:
    tap = Tap()
    box = inbox(tap)
    assert set(tap.handlers) == {"x", "y"}
    box.close()
    assert box.closed
    assert tap.handlers == {}
    assert box.get(5.0) is None


def test_a_task_waits_and_is_woken_by_what_comes_or_by_the_end() -> None:
    async def read() -> list[bytes | None]:
        tap = Tap()
        box = inbox(tap)
        loop = asyncio.get_running_loop()
        loop.call_soon(lambda: loop.call_soon(tap.push, b"1"))
        first = await box.receive(5.0)
        nothing = await box.receive(0.001)
        tap.push(b"2")
        second = await box.receive(None)
        loop.call_soon(lambda: loop.call_soon(box.close))
        end = await box.receive(None)
        return [a.inbound.payload if a else None for a in (first, nothing, second, end)]

    assert asyncio.run(read()) == [b"1", None, b"2", None]


def test_a_message_after_the_readers_loop_is_over_harms_nobody() -> None:
    tap = Tap()
    box = inbox(tap)
    loop = asyncio.new_event_loop()
    task = loop.create_task(box.receive(None))
    loop.run_until_complete(asyncio.sleep(0))
    loop.run_until_complete(asyncio.sleep(0))
    task.cancel()
    loop.close()
    tap.push(b"1")
    arrival = box.get(0.0)
    assert arrival is not None
