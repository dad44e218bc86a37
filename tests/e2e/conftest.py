"""Racks for end-to-end tests; a failed test shows the programs' logs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.rack import Rack

KINDS = ["embedded", pytest.param("mosquitto", marks=pytest.mark.mosquitto)]


@pytest.fixture(scope="module", params=KINDS)
def rack(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rack]:
    """A rack whose ECU streams, on each kind of broker; shared by the tests of a module, which
    leave it so."""
    with Rack(tmp_path_factory.mktemp("rack"), request.param) as running:
        running.observer.wait_streaming()
        yield running


@pytest.fixture(params=KINDS)
def own_rack(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rack]:
    """A rack of a test's own, on each kind of broker, whose ECU streams."""
    with Rack(tmp_path_factory.mktemp("rack"), request.param) as running:
        running.observer.wait_streaming()
        yield running


@pytest.fixture
def mosquitto_rack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    """A rack of a test's own on Mosquitto, whose ECU streams."""
    with Rack(tmp_path_factory.mktemp("rack"), "mosquitto") as running:
        running.observer.wait_streaming()
        yield running
