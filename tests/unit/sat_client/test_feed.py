"""Messages of the contract as a reader gets them."""

from __future__ import annotations

from collections.abc import Callable

from sat_bus.contract import topics
from sat_bus.contract.messages import HostState
from sat_bus.transport.bus import Handler, Inbound
from sat_client.feed import Feed

TOPIC = topics.HOST_STATE.build("lab", host="bench")


class Tap:
    def __init__(self) -> None:
        self.handler: Handler | None = None

    def attach(self, subscription: str, handler: Handler) -> Callable[[], None]:
        self.handler = handler
        return lambda: None

    def push(self, topic: str, payload: bytes) -> None:
        assert self.handler is not None
        self.handler(Inbound(topic, payload))


def test_messages_are_decoded_and_what_was_cleared_is_none() -> None:
    tap = Tap()
    said = HostState(state="ready", boot="1-a")
    with Feed("lab", ("x",), tap.attach) as feed:
        tap.push(TOPIC, said.encode())
        tap.push(TOPIC, b"")
        first, second = feed.get(0.0), feed.get(0.0)
        assert first is not None
        assert second is not None
        assert (first.message, second.message) == (said, None)
        assert first.match.levels == {"host": "bench"}
        assert feed.get(0.0) is None
    assert feed.closed
    assert list(feed) == []


def test_what_is_not_of_the_contract_is_passed_over_and_garbage_counted() -> None:
    tap = Tap()
    feed = Feed("lab", ("x",), tap.attach, capacity=3)
    tap.push("else/where", b"{}")
    tap.push("else/where", b"{}")
    tap.push(topics.DEVICE_STATE.build("lab", host="h", driver="d", device="x"), b"connected")
    tap.push(TOPIC, b"garbage")
    assert feed.get(0.0) is None
    assert (feed.malformed, feed.overflow) == (1, 1)
