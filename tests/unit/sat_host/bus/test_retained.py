"""How a host keeps its retained topics true."""

from __future__ import annotations

from sat_host.bus.retained import RetainedTopics


class Retained:
    """A broker's retained topics, and every message that was published."""

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes]] = []

    def __call__(self, topic: str, payload: bytes) -> None:
        self.published.append((topic, payload))


def test_an_own_message_that_comes_back_late_is_no_difference() -> None:
    bus = Retained()
    topics = RetainedTopics(bus)
    topics.want("t", b"one")
    topics.want("t", b"two")
    assert topics.see("t", b"one")
    assert not topics.see("t", b"two")
    assert topics.settle(clear_unknown=True) == 0
    assert bus.published == [("t", b"one"), ("t", b"two")]


def test_anothers_word_is_overwritten() -> None:
    bus = Retained()
    topics = RetainedTopics(bus)
    topics.want("t", b"true")
    topics.see("t", b"false")
    assert topics.settle(clear_unknown=False) == 1
    assert bus.published[-1] == ("t", b"true")
    assert topics.settle(clear_unknown=False) == 0


def test_a_cleared_topic_is_published_again() -> None:
    bus = Retained()
    topics = RetainedTopics(bus)
    topics.want("t", b"true")
    topics.see("t", b"true")
    topics.see("t", b"")
    assert topics.settle(clear_unknown=True) == 1
    assert bus.published[-1] == ("t", b"true")


def test_a_topic_nobody_wants_is_cleared_once_all_is_known() -> None:
    bus = Retained()
    topics = RetainedTopics(bus)
    topics.see("ghost", b"connected")
    assert topics.settle(clear_unknown=False) == 0
    assert bus.published == []
    assert topics.settle(clear_unknown=True) == 1
    assert bus.published == [("ghost", b"")]


def test_a_dropped_topic_is_cleared_and_stays_so() -> None:
    bus = Retained()
    topics = RetainedTopics(bus)
    topics.want("t", b"x")
    topics.drop("t")
    topics.see("t", b"")
    topics.republish()
    assert bus.published == [("t", b"x"), ("t", b"")]
    assert topics.settle(clear_unknown=True) == 0


def test_everything_is_published_again_on_request() -> None:
    bus = Retained()
    topics = RetainedTopics(bus)
    topics.want("a", b"1")
    topics.want("b", b"2")
    bus.published.clear()
    topics.republish()
    assert bus.published == [("a", b"1"), ("b", b"2")]
