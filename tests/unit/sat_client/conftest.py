"""A rack on a site made by hand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sat_bus.testing.memory import MemoryBroker, MemoryBus
from sat_client import Rack
from tests.unit.client_site import SITE, FakeSite


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


@pytest.fixture
def site(broker: MemoryBroker) -> Iterator[FakeSite]:
    site = FakeSite(broker)
    site.orchestrator()
    site.device("ecu")
    site.born(devices=1)
    yield site
    site.close()


@pytest.fixture
def rack(broker: MemoryBroker, site: FakeSite) -> Iterator[Rack]:
    with Rack(site=SITE, client="tester", bus=MemoryBus(broker, "tester")) as rack:
        yield rack
