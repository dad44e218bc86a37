"""Requests of a client: one outcome each, and none that waits for nothing."""

from __future__ import annotations

import time
from typing import Any

import pytest

from sat_bus.contract import messages as m
from sat_bus.contract import topics
from sat_bus.testing.memory import MemoryBroker
from sat_client import Offline, Rack
from sat_toolkit import errors
from tests.unit.client_site import FakeSite, in_thread, until


def test_no_reply_is_a_timeout_that_says_what_may_be_wrong(rack: Rack, site: FakeSite) -> None:
    def silent(match: topics.Match, request: m.Request) -> Any:
        raise FakeSite.Silence

    site.answer = silent
    with pytest.raises(errors.Timeout, match=r"bench-can.*sat doctor"):
        rack.device("ecu").do("send", timeout=0.01)


def test_a_late_reply_is_counted_and_ignored(rack: Rack, site: FakeSite) -> None:
    site.bus.publish("sat/1/lab/reply/tester/nobody", m.Reply(status="ok").encode())
    until(lambda: rack.requests.late == 1)
    assert rack.device("ecu").do("send") == {"args": {}}


def test_a_host_lost_during_a_command_ends_the_wait(rack: Rack, site: FakeSite) -> None:
    def lose(match: topics.Match, request: m.Request) -> Any:
        site.host_state("lost")
        raise FakeSite.Silence

    site.answer = lose
    before = time.monotonic()
    with pytest.raises(errors.Indeterminate, match="bench-can"):
        rack.device("ecu").do("send", timeout=30.0)
    assert time.monotonic() - before < 10.0


def test_offline_a_request_is_refused_and_nothing_is_sent_later(
    rack: Rack, site: FakeSite, broker: MemoryBroker
) -> None:
    ecu = rack.device("ecu")
    broker.stop()
    until(lambda: not rack.connected)
    with pytest.raises(Offline, match="nothing was sent"):
        ecu.do("send")
    broker.start()
    until(lambda: rack.connected and site.bus.connected)
    assert ecu.do("status") == {"args": {}}
    assert [topic.split("/")[-2] for topic, _ in site.asked] == ["status"]


def test_closing_the_rack_ends_a_wait(rack: Rack, site: FakeSite) -> None:
    def silent(match: topics.Match, request: m.Request) -> Any:
        raise FakeSite.Silence

    site.answer = silent
    thread, caught = in_thread(lambda: rack.device("ecu").do("send", timeout=30.0))
    until(lambda: len(site.asked) == 1)
    rack.close()
    thread.join(5.0)
    assert [type(error) for error in caught] == [Offline]
