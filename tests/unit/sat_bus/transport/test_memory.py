"""What only the in-memory broker can do: be told what happens to its clients."""

from __future__ import annotations

from sat_bus.contract.topics import Traffic
from sat_bus.testing.memory import MemoryBroker, MemoryBus
from sat_bus.transport.bus import Inbound, Will
from tests.waiting import Inbox


def test_a_killed_client_leaves_its_will_and_never_comes_back() -> None:
    broker = MemoryBroker()
    with (
        MemoryBus(broker, "watcher") as watcher,
        MemoryBus(broker, "host", will=Will("w", b"gone")) as host,
    ):
        inbox: Inbox[Inbound] = Inbox()
        watcher.subscribe("w", inbox)
        assert watcher.start()
        assert host.start()
        broker.kill("host")
        assert inbox.wait()[0].payload == b"gone"
        assert broker.retained == {"w": b"gone"}
        broker.stop()
        broker.start()
        assert watcher.connected
        assert not host.connected
        assert not host.publish("x", b"")


def test_a_newcomer_of_the_same_name_throws_the_other_out() -> None:
    broker = MemoryBroker()
    with MemoryBus(broker, "host", will=Will("w", b"old")) as old, MemoryBus(broker, "host") as new:
        old.start()
        new.start()
        assert (old.connected, new.connected) == (False, True)
        assert broker.retained == {"w": b"old"}


def test_a_wiped_broker_has_nothing_retained() -> None:
    broker = MemoryBroker()
    with MemoryBus(broker, "host") as host:
        host.start()
        host.publish("s", b"1", retain=True, traffic=Traffic.STATE)
        assert broker.retained == {"s": b"1"}
        broker.wipe()
        assert broker.retained == {}


def test_a_client_that_starts_before_the_broker_connects_when_it_comes() -> None:
    broker = MemoryBroker()
    broker.stop()
    with MemoryBus(broker, "host") as host:
        news: Inbox[bool] = Inbox()
        host.on_connection(news)
        assert not host.start(0.1)
        broker.start()
        assert news.wait() == [True]
        assert host.stats().reconnects == 0
