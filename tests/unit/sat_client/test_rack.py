"""A rack on a site made by hand: names, requests with one outcome, streams, and the times when
things are away."""

from __future__ import annotations

import socket
import threading

import pytest

from sat_bus.contract import topics
from sat_bus.testing.memory import MemoryBroker, MemoryBus
from sat_cli.brokers.tcp_ports import find_free_port
from sat_client import Offline, Rack
from sat_toolkit import errors
from sat_toolkit.core.device_spec import DeviceState
from tests.brokers import embedded_broker
from tests.unit.client_site import SITE, FakeSite, in_thread, until


def test_what_is_retained_is_there_when_open_returns(rack: Rack) -> None:
    assert [str(d.key) for d in rack.devices()] == ["bench-can/drv_socketcan/ecu"]
    assert rack.hosts()["bench-can"].state == "ready"
    ecu = rack.device("ecu")
    assert ecu.state is DeviceState.CONNECTED
    assert ecu.meta is not None
    assert ecu.meta.name == "the ecu"
    assert (ecu.host, ecu.driver, ecu.id) == ("bench-can", "drv_socketcan", "ecu")


def test_a_device_that_is_not_there_is_refused_at_once(rack: Rack) -> None:
    with pytest.raises(errors.UnknownDevice, match="ecu"):
        rack.device("abs")


def test_an_orchestrator_that_was_never_seen_is_told_instead_of_waited_for(
    rack: Rack, site: FakeSite
) -> None:
    site.publish(topics.ORCHESTRATOR_STATE, None)
    until(lambda: rack.orchestrator is None)
    with pytest.raises(errors.HostLost, match="was never seen; start it: sat orchestrator"):
        rack.device("ecu").connect()


def test_an_orchestrator_that_has_stopped_is_told_instead_of_waited_for(
    rack: Rack, site: FakeSite
) -> None:
    site.orchestrator("offline")
    until(lambda: rack.orchestrator is not None and rack.orchestrator.state == "offline")
    rack.orchestrator_grace = 0.05
    with pytest.raises(errors.HostLost, match="has stopped; start it: sat orchestrator"):
        rack.device("ecu").set("connected")


def test_closing_the_rack_ends_its_readers(site: FakeSite) -> None:
    with Rack(site=SITE, bus=MemoryBus(site.broker, "short")) as rack:
        watch, feed = rack.watch(), rack.feed(topics.DEVICE_EVENT)
    assert (list(watch), list(feed)) == ([], [])


def test_what_the_broker_forgot_is_forgotten_after_a_reconnect(
    rack: Rack, site: FakeSite, broker: MemoryBroker
) -> None:
    broker.wipe()
    broker.cut("tester")
    until(lambda: rack.devices() == [] and rack.connected)
    site.device("ecu")
    until(lambda: [d.id for d in rack.devices()] == ["ecu"])


def test_retained_messages_survive_a_reconnect(rack: Rack, broker: MemoryBroker) -> None:
    broker.cut("tester")
    until(lambda: rack.connected)
    assert rack.requests.echo("probe", threading.Event().set)
    assert [d.id for d in rack.devices()] == ["ecu"]


def test_without_a_broker_open_says_so() -> None:
    broker = MemoryBroker()
    broker.stop()
    with pytest.raises(Offline, match="sat doctor"):
        Rack("mqtt://me:secret@nowhere:1883", bus=MemoryBus(broker, "t")).open(0.1)


def test_where_nothing_listens_open_says_so_soon() -> None:
    rack = Rack(f"mqtt://127.0.0.1:{find_free_port()}")
    with pytest.raises(Offline, match=r"within 0\.5 s .*Connection refused"):
        rack.open(60, refused_timeout=0.5)


def test_a_broker_that_is_silent_is_given_the_whole_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        rack = Rack(f"mqtt://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(Offline, match=r"within 0\.7 s"):
            rack.open(0.7, refused_timeout=0.2)


def test_a_broker_that_comes_up_in_that_time_is_reached(caplog: pytest.LogCaptureFixture) -> None:
    with embedded_broker() as broker:
        broker.kill()
        rack = Rack(broker.url)
        thread, caught = in_thread(lambda: rack.open(10, refused_timeout=10))
        until(lambda: "Connection refused" in caplog.text)
        broker.start()
        thread.join(10)
        assert caught == []
        assert rack.connected
        rack.close()


def test_a_password_never_reaches_a_message() -> None:
    broker = MemoryBroker()
    broker.stop()
    with pytest.raises(Offline) as caught:
        Rack("mqtt://me:secret@nowhere:1883", bus=MemoryBus(broker, "t")).open(0.1)
    assert "secret" not in str(caught.value)


def test_the_user_of_the_url_is_the_client_that_a_broker_can_vouch_for() -> None:
    assert Rack("mqtt://anna:x@bench").client == "anna"


def test_a_closed_rack_says_that_it_is_closed() -> None:
    with pytest.raises(Offline, match="not open"):
        _ = Rack("mqtt://bench").requests
