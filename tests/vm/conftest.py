"""One virtual machine for all tests of this folder, with the whole system running in it and a rack
outside."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sat_client import Rack
from tests.vm.buses import BUFFER, HOST, eventually_true
from tests.vm.machine import Image, Machine

FOLDER = Path(__file__).parent
POLICY = [{"match": "*", "level": "connected", "streams": {"can": {}}}]
SETTINGS = {
    "SAT_POLICY": json.dumps(POLICY),
    "SAT_DATABASE_URL": "sqlite:////tmp/sat.db",
    "SAT_HOST": HOST,
}
BROKER = "listener 1883 0.0.0.0\\nallow_anonymous true\\nset_tcp_nodelay true\\n"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests the time that emulation takes, and run those on a machine of their own before the
    shared one boots."""
    for item in items:
        if item.path.parent == FOLDER and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(400))
    items.sort(
        key=lambda item: item.path.parent == FOLDER and "rack" in getattr(item, "fixturenames", ())
    )


@pytest.fixture(scope="session")
def machine() -> Iterator[Machine]:
    with Machine(Image.build()) as machine:
        yield machine


@pytest.fixture(scope="session")
def system(machine: Machine) -> Iterator[Machine]:
    """Mosquitto, an orchestrator that connects and streams every link, and a driver host, in the
    machine."""
    machine.shell(f"sysctl -qw net.core.rmem_max={BUFFER}; printf '{BROKER}' >/tmp/broker.conf")
    with (
        machine.serve("mosquitto", "mosquitto", "-c", "/tmp/broker.conf"),
        machine.serve("orchestrator", "sat", "orchestrator", env=SETTINGS),
        machine.serve("host", "sat", "host", "--family", "can", env=SETTINGS),
    ):
        yield machine


@pytest.fixture(scope="session")
def rack(system: Machine) -> Iterator[Rack]:
    """A client of the guest's broker on this side."""
    with Rack(system.broker_url) as rack:
        eventually_true(lambda: HOST in rack.hosts(), "the driver host is on the bus")
        yield rack
