"""A connection to a site: its picture, who listens to what, and when it is in step."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sat_bus.contract.device_key import Key
from sat_bus.contract.messages import OrchestratorState
from sat_bus.testing.memory import MemoryBroker, MemoryBus
from sat_bus.transport.bus import Inbound
from sat_client.connection import RackConnection
from sat_client.requests import Offline
from sat_toolkit.core.device_spec import DeviceState
from sat_toolkit.errors import HostLost, Timeout
from tests.unit.client_site import DRIVER, SITE, FakeSite
from tests.waiting import Inbox

ECU = Key("bench-can", DRIVER, "ecu")


@pytest.fixture
def site() -> Iterator[FakeSite]:
    site = FakeSite(MemoryBroker())
    site.device("ecu")
    site.born(devices=1)
    yield site
    site.close()


@pytest.fixture
def connection(site: FakeSite) -> Iterator[RackConnection]:
    with RackConnection(site=SITE, client="ann", bus=MemoryBus(site.broker, "ann")) as connection:
        yield connection


def test_the_picture_is_read_in_one_piece(connection: RackConnection) -> None:
    with connection.reading() as view:
        assert view.state(ECU) is DeviceState.CONNECTED
    assert connection.read(lambda view: sorted(view.devices)) == [ECU]


def test_a_condition_is_waited_for_and_no_longer_than_that(
    connection: RackConnection, site: FakeSite
) -> None:
    assert not connection.reached(lambda view: view.state(ECU) is DeviceState.ERROR, 0.01)
    site.status("ecu", "error")
    assert connection.reached(lambda view: view.state(ECU) is DeviceState.ERROR, 5.0)
    with pytest.raises(Timeout, match=r"it is not there, after 0\.01 s"):
        connection.wait_until(lambda view: False, 0.01, lambda: "it is not there")
    connection.wait_until(lambda view: True, 0.0, lambda: "")


def test_several_listen_to_one_filter_until_each_has_had_enough(
    connection: RackConnection, site: FakeSite
) -> None:
    one: Inbox[Inbound] = Inbox()
    two: Inbox[Inbound] = Inbox()
    ends = [connection.attach("x/+", one), connection.attach("x/+", two)]
    site.bus.publish("x/1", b"")
    one.wait(1)
    two.wait(1)
    ends[0]()
    ends[0]()  # once more changes nothing
    site.bus.publish("x/2", b"")
    two.wait(2)
    assert len(one.items) == 1
    ends[1]()
    again: Inbox[Inbound] = Inbox()
    connection.attach("x/+", again)
    site.bus.publish("x/3", b"")
    again.wait(1)
    assert len(two.items) == 2


def test_an_orchestrator_is_there_when_it_says_ready(
    connection: RackConnection, site: FakeSite
) -> None:
    connection.orchestrator_grace = 0.01
    with pytest.raises(HostLost, match="was never seen"):
        connection.need_orchestrator()
    for state, there in (("offline", False), ("init", False), ("ready", True)):
        said = OrchestratorState.model_validate({"state": state, "id": "orch", "epoch": 1})
        site.orchestrator(state)
        assert connection.reached(lambda view, said=said: view.orchestrator == said, 5.0)
        if there:
            connection.need_orchestrator()
        else:
            with pytest.raises(HostLost, match="has stopped; start it: sat orchestrator"):
                connection.need_orchestrator()


def test_what_is_closed_says_so_and_can_be_closed_again(site: FakeSite) -> None:
    connection = RackConnection(site=SITE, bus=MemoryBus(site.broker, "ann"))
    for what in ("bus", "requests"):
        with pytest.raises(Offline, match="not open"):
            getattr(connection, what)
    connection.open()
    assert connection.connected
    connection.close()
    connection.close()
    assert not connection.connected


def test_of_many_reconnects_only_the_last_echo_is_waited_for(
    connection: RackConnection, site: FakeSite
) -> None:
    requests = connection.requests
    for _ in range(3):
        site.broker.stop()
        site.broker.start()
    assert connection.reached(lambda view: connection._synced, 5.0)
    assert connection.reached(lambda view: len(requests) == 0, 5.0)
