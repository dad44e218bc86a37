"""Messages of the contract as they arrive: read, cleared, malformed, too many, over."""

from __future__ import annotations

import pytest

from sat_bus.contract import messages as m
from sat_bus.contract import topics
from sat_client import Rack
from sat_client.feed import Feed, Heard
from tests.unit.client_site import DRIVER, FakeSite, until

DEADLINE = 10.0


def heard(feed: Feed) -> Heard:
    message = feed.get(DEADLINE)
    assert message is not None
    return message


def test_a_message_comes_with_its_levels_and_its_type(rack: Rack, site: FakeSite) -> None:
    with rack.feed(topics.DEVICE_STATUS, device="ecu") as feed:
        heard(feed)  # the retained one
        site.status("other")
        site.status("ecu", "error", reason="pulled")
        message = heard(feed)
    assert message.match.levels == {"host": "bench-can", "driver": DRIVER, "device": "ecu"}
    assert isinstance(message.message, m.Status)
    assert message.message.reason == "pulled"


def test_a_retained_topic_that_is_cleared_is_heard_as_nothing(rack: Rack, site: FakeSite) -> None:
    with rack.feed(topics.DEVICE_META) as feed:
        site.publish(topics.DEVICE_META, None, host=site.host, driver=DRIVER, device="ecu")
        assert heard(feed).message is None


def test_garbage_is_counted_and_passed_over(rack: Rack, site: FakeSite) -> None:
    with rack.feed(topics.ORCHESTRATOR_STATE) as feed:
        site.bus.publish("sat/1/lab/orch/state", b"{")
        site.orchestrator("offline")
        assert isinstance(heard(feed).message, m.OrchestratorState)
        assert feed.malformed == 1


@pytest.mark.parametrize("capacity", [1, 3])
def test_who_does_not_read_loses_the_oldest(rack: Rack, site: FakeSite, capacity: int) -> None:
    with rack.feed(topics.DEVICE_STATUS, capacity=capacity) as feed:
        for _ in range(10):
            site.status("ecu")
        until(lambda: feed.overflow == 10 - capacity)
        statuses = [heard(feed).message for _ in range(capacity)]
    assert [status.rev for status in statuses] == list(range(site.rev - capacity + 1, site.rev + 1))


def test_nothing_comes_in_vain_and_nothing_after_the_end(rack: Rack) -> None:
    feed = rack.feed(topics.DEVICE_EVENT)
    assert feed.get(0.01) is None
    feed.close()
    assert list(feed) == []
