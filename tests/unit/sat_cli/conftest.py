"""A site as the commands of `sat` see it: in memory, or on a broker that is there, for those that take
its URL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from sat_bus.testing.memory import MemoryBroker, MemoryBus
from sat_bus.transport.mqtt import MqttBus
from sat_client import Device, Rack
from tests.brokers import embedded_broker
from tests.unit.client_site import SITE, FakeSite


class Reached:
    """A site, and how a command reaches it."""

    def __init__(self, site: FakeSite, url: str) -> None:
        self.site = site
        self.where: dict[str, Any] = {"broker": url, "site": SITE}


@pytest.fixture
def reached() -> Iterator[Reached]:
    with embedded_broker() as broker:
        site = FakeSite(MemoryBroker(), bus=MqttBus(broker.url, "site"))
        site.orchestrator()
        site.device("ecu")
        site.born(devices=1)
        assert site.bus.flush(5.0)
        yield Reached(site, broker.url)
        site.close()


@pytest.fixture
def site() -> Iterator[FakeSite]:
    site = FakeSite(MemoryBroker())
    site.orchestrator()
    site.device("ecu")
    site.born(devices=1)
    yield site
    site.close()


@pytest.fixture
def rack(site: FakeSite) -> Iterator[Rack]:
    with Rack(site=SITE, bus=MemoryBus(site.broker, "show")) as rack:
        yield rack


@pytest.fixture
def ecu(rack: Rack) -> Device:
    return rack.device("ecu")
