"""A monitor of a bench on a site made by hand."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from sat_bus.testing.memory import MemoryBroker, MemoryBus
from sat_cli.bench.monitor import Monitor
from sat_client import Rack
from tests.unit.client_site import SITE, FakeSite


@pytest.fixture
def site() -> Iterator[FakeSite]:
    site = FakeSite(MemoryBroker())
    yield site
    site.close()


@pytest.fixture
def monitor(site: FakeSite) -> Iterator[Monitor]:
    with Rack(site=SITE, bus=MemoryBus(site.broker, "monitor")) as rack:
        monitor = Monitor(rack, time.monotonic())
        yield monitor
        monitor.close()
