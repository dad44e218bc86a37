"""The inbox: bounded in two lanes, in order of arrival, safe from its handlers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from sat_bus.transport.bus import Inbound
from sat_bus.transport.inbox import Dispatcher, is_frames
from tests.waiting import Inbox

FRAMES = "sat/1/lab/dev/h/drv/d/stream/can/json"


class Gate:
    """A handler that blocks the dispatch thread until it is opened."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()

    def __call__(self, _message: Inbound) -> None:
        self.entered.set()
        assert self.opened.wait(10)


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def dispatcher(gate: Gate) -> Iterator[Dispatcher]:
    dispatcher = Dispatcher("test", capacity=4, frame_bytes=400)
    dispatcher.add("gate", gate, 1)
    dispatcher.start()
    dispatcher.message(Inbound("gate", b""))
    assert gate.entered.wait(5)
    yield dispatcher
    gate.opened.set()
    dispatcher.stop(5)


def test_keeps_the_order_of_arrival_over_both_lanes(dispatcher: Dispatcher, gate: Gate) -> None:
    inbox: Inbox[Inbound] = Inbox()
    dispatcher.add("#", inbox, 1)
    sent = ["a", FRAMES, "b", FRAMES, FRAMES, "c"]
    for topic in sent:
        dispatcher.message(Inbound(topic, b""))
    assert dispatcher.depth() == 6
    gate.opened.set()
    inbox.wait(6)
    assert [message.topic for message in inbox.items] == sent


def test_a_flood_of_frames_never_pushes_out_anything_else(
    dispatcher: Dispatcher, gate: Gate
) -> None:
    inbox: Inbox[Inbound] = Inbox()
    dispatcher.add("#", inbox, 1)
    dispatcher.message(Inbound("command", b""))
    for number in range(100):
        dispatcher.message(Inbound(FRAMES, b"%100d" % number))
    gate.opened.set()
    inbox.wait(5)
    assert [message.topic for message in inbox.items] == ["command"] + [FRAMES] * 4
    assert int(inbox.items[-1].payload) == 99, "the oldest frames are dropped"
    assert dispatcher.dropped() == {"inbox_full": 96}


def test_a_flood_of_others_drops_its_oldest_but_no_news_of_the_connection(
    dispatcher: Dispatcher, gate: Gate
) -> None:
    seen: Inbox[object] = Inbox()
    dispatcher.add("n/#", seen, 1)
    dispatcher.on_connection(seen)
    dispatcher.connection(False)
    for number in range(10):
        dispatcher.message(Inbound(f"n/{number}", b""))
    gate.opened.set()
    items = seen.wait(4)
    assert [item if isinstance(item, bool) else getattr(item, "topic", None) for item in items] == [
        False, "n/7", "n/8", "n/9",
    ]  # fmt: skip
    assert dispatcher.dropped() == {"inbox_full": 7}


def test_with_identifiers_only_those_subscriptions_are_called() -> None:
    dispatcher = Dispatcher("test")
    wide: Inbox[Inbound] = Inbox()
    narrow: Inbox[Inbound] = Inbox()
    dispatcher.add("a/#", wide, 1)
    entry = dispatcher.add("a/b", narrow, 1)
    dispatcher.start()
    dispatcher.message(Inbound("a/b", b"1"), (entry.ident, 999))
    dispatcher.message(Inbound("a/b", b"2"))
    assert [message.payload for message in narrow.wait(2)] == [b"1", b"2"]
    dispatcher.stop(5)
    assert [message.payload for message in wide.items] == [b"2"]


def test_subscriptions_change_while_messages_come() -> None:
    dispatcher = Dispatcher("test")
    dispatcher.start()
    first: Inbox[Inbound] = Inbox()
    second: Inbox[Inbound] = Inbox()
    dispatcher.add("a", first, 1)
    dispatcher.message(Inbound("a", b"1"))
    first.wait()
    before = dispatcher.revision
    dispatcher.add("a", second, 1)
    assert dispatcher.revision > before
    dispatcher.message(Inbound("a", b"2"))
    second.wait()
    assert dispatcher.remove("a")
    assert not dispatcher.remove("a")
    assert dispatcher.subscriptions() == []
    dispatcher.stop(5)
    assert len(first.items) == 1


@pytest.mark.parametrize(("topic", "expected"), [
    (FRAMES, True), ("sat/1/lab/dev/h/drv/d/stream/can/bin", True), ("sat/1/lab/dev/h/drv/stream/state", False),
    ("sat/1/lab/dev/h/drv/d/cmd/stream", False), ("a", False),
])  # fmt: skip
def test_knows_frames_by_their_topic(topic: str, expected: bool) -> None:
    assert is_frames(topic) is expected


def test_a_work_loop_can_take_the_place_of_the_thread() -> None:
    dispatcher = Dispatcher("test")
    inbox: Inbox[Inbound | bool] = Inbox()
    jobs: list[Callable[[], None]] = []
    dispatcher.deliver_on(lambda job: not jobs.append(job))
    dispatcher.add("#", inbox, 1)
    dispatcher.on_connection(inbox)
    dispatcher.start()
    dispatcher.connection(True)
    for number in range(100):
        dispatcher.message(Inbound(f"n/{number}", b""))
    assert len(jobs) == 1, "one job for all that waits"
    runs = 0
    while jobs:
        jobs.pop()()
        runs += 1
    assert runs > 1, "other jobs of the loop have their turn in between"
    assert inbox.items == [True, *(Inbound(f"n/{number}", b"") for number in range(100))]
    dispatcher.message(Inbound("again", b""))
    assert len(jobs) == 1
    dispatcher.stop(5)
    jobs.pop()()
    assert len(inbox.items) == 101, "nothing is handled after the end"


def test_what_the_loop_has_no_room_for_is_handled_with_the_next_arrival() -> None:
    dispatcher = Dispatcher("test")
    inbox: Inbox[Inbound] = Inbox()
    full = True
    jobs: list[Callable[[], None]] = []

    def post(job: Callable[[], None]) -> bool:
        if not full:
            jobs.append(job)
        return not full

    dispatcher.deliver_on(post)
    dispatcher.add("#", inbox, 1)
    dispatcher.message(Inbound("a", b""))
    full = False
    dispatcher.message(Inbound("b", b""))
    jobs.pop()()
    assert [message.topic for message in inbox.items] == ["a", "b"]
