"""A device's handle: it holds a name and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sat_bus.transport.memory import MemoryBroker, MemoryBus
from sat_client import Device, DeviceState, Key, Rack
from sat_toolkit.errors import HostLost, Timeout, UnknownDevice
from tests.unit.client_site import DRIVER, SITE, FakeSite

ECU = Key("bench-can", DRIVER, "ecu")


@pytest.fixture
def rack() -> Iterator[Rack]:
    site = FakeSite(MemoryBroker())
    site.device("ecu", reason="all is well")
    site.row("ecu", observed="connected", desired=None, policy="all")
    site.born(devices=1)
    with Rack(site=SITE, client="ann", bus=MemoryBus(site.broker, "ann")) as rack:
        yield rack
    site.close()


def test_two_handles_of_one_device_are_equal(rack: Rack) -> None:
    one, two = rack.device("ecu"), Device(rack, ECU)
    assert one == two
    assert len({one, two}) == 1
    assert one != Device(rack, Key("bench-can", DRIVER, "abs"))
    assert one != Device(Rack(site=SITE), ECU)
    assert one != "ecu"
    assert repr(one) == f"Device('bench-can/{DRIVER}/ecu', connected)"


def test_a_device_is_what_the_bus_says(rack: Rack) -> None:
    ecu = rack.device("ecu")
    assert (ecu.id, ecu.driver, ecu.host) == ("ecu", DRIVER, "bench-can")
    assert (ecu.state, ecu.quality) == (DeviceState.CONNECTED, "good")
    assert ecu.status is not None
    assert ecu.status.reason == "all is well"
    assert ecu.meta is not None
    assert ecu.meta.name == "the ecu"
    assert ecu.row is not None
    assert ecu.row.policy == "all"


def test_a_device_that_was_never_seen_has_nothing_to_show(rack: Rack) -> None:
    ghost = Device(rack, Key("bench-can", DRIVER, "ghost"))
    assert (ghost.state, ghost.quality) == (DeviceState.UNKNOWN, "lost")
    assert (ghost.status, ghost.meta, ghost.row) == (None, None, None)
    with pytest.raises(UnknownDevice, match="Device ghost not found"):
        ghost.do("send")
    with pytest.raises(Timeout, match=r"ghost is unknown, not connected, after 0\.01 s"):
        ghost.wait_for("connected", 0.01)
    with pytest.raises(UnknownDevice):
        Device(rack, Key("nowhere", DRIVER, "ecu")).send({"id": 1})


def test_a_state_that_does_not_exist_is_not_waited_for(rack: Rack) -> None:
    with pytest.raises(ValueError, match="flying"):
        rack.device("ecu").wait_for("flying", 5.0)
    with pytest.raises(HostLost, match="sat orchestrator"):
        rack.orchestrator_grace = 0.01
        rack.device("ecu").close()
