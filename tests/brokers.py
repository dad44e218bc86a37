"""Brokers to test against, each on a free port of the loopback, that can be killed, started again
and wiped."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sat_cli.brokers.embedded import EmbeddedBroker
from sat_cli.brokers.mosquitto import MosquittoBroker, find_mosquitto


class BrokerUnderTest:
    """A broker that keeps its ports over `kill` and `start`."""

    def __init__(self, broker: MosquittoBroker | EmbeddedBroker) -> None:
        self._broker = broker

    @property
    def kind(self) -> str:
        return self._broker.kind

    @property
    def url(self) -> str:
        return self._broker.url

    @property
    def ws_url(self) -> str:
        assert self._broker.ws_url is not None, "made without WebSocket"
        return self._broker.ws_url

    @property
    def port(self) -> int:
        return self._broker.port

    def start(self) -> None:
        if not self._broker.running:
            self._broker.start()

    def stop(self) -> None:
        """End it in an orderly way."""
        self._broker.stop()

    def kill(self) -> None:
        """End it at once. The embedded broker forgets what it retained; Mosquitto may forget the
        last second."""
        if isinstance(self._broker, MosquittoBroker):
            self._broker.kill()
        else:
            self._broker.stop()

    def wipe(self) -> None:
        """Kill it and start it again without anything it had retained."""
        self.kill()
        if isinstance(self._broker, MosquittoBroker):
            shutil.rmtree(self._broker.data_dir, ignore_errors=True)
        self.start()


def need_mosquitto() -> str:
    """The mosquitto program; without one the test is skipped, or fails when nothing may be left
    out."""
    binary = find_mosquitto()
    if binary is None:
        message = "mosquitto is not on the PATH (Debian: apt-get install mosquitto)"
        if os.environ.get("SAT_TEST_ALL"):
            pytest.fail(message)
        pytest.skip(message)
    return binary


@contextmanager
def mosquitto_broker(*, websocket: bool = False) -> Iterator[BrokerUnderTest]:
    """A running Mosquitto; a test that uses it is marked ``mosquitto``."""
    binary = need_mosquitto()
    with tempfile.TemporaryDirectory(prefix="sat-mosquitto-") as folder:
        broker = MosquittoBroker(
            binary, port=0, ws_port=0 if websocket else None, data_dir=Path(folder) / "data"
        )
        yield from _running(broker)


@contextmanager
def embedded_broker(
    *, websocket: bool = False, allowed_origins: tuple[str, ...] = ()
) -> Iterator[BrokerUnderTest]:
    """A running embedded broker."""
    yield from _running(
        EmbeddedBroker(port=0, ws_port=0 if websocket else None, allowed_origins=allowed_origins)
    )


def _running(broker: MosquittoBroker | EmbeddedBroker) -> Iterator[BrokerUnderTest]:
    broker.start()
    try:
        yield BrokerUnderTest(broker)
    finally:
        broker.stop()
