"""The systems that the bus contract is tested on: every adapter on every broker, version and
transport."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Literal, Protocol
from urllib.parse import urlsplit

import pytest

from sat_bus.testing.memory import MemoryBroker, MemoryBus
from sat_bus.transport.bus import Bus, Will
from sat_bus.transport.mqtt import MqttBus
from tests.brokers import BrokerUnderTest, embedded_broker, mosquitto_broker
from tests.proxy import TcpProxy


class System(Protocol):
    """A broker and its clients."""

    once_for_overlaps: bool  # a message that two filters of a client catch comes once for each

    def bus(self, client_id: str, *, will: Will | None = None, start: bool = True) -> Bus: ...

    def cut(self, client_id: str) -> None: ...

    def stop(self) -> None: ...

    def start(self) -> None: ...


class MemorySystem:
    once_for_overlaps = True

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._broker = MemoryBroker()

    def bus(self, client_id: str, *, will: Will | None = None, start: bool = True) -> Bus:
        bus = MemoryBus(self._broker, client_id, will=will)
        self._stack.callback(bus.close)
        assert not start or bus.start(5)
        return bus

    def cut(self, client_id: str) -> None:
        self._broker.cut(client_id)

    def stop(self) -> None:
        self._broker.stop()

    def start(self) -> None:
        self._broker.start()


@dataclass
class MqttSystem:
    """Each client has a proxy of its own, so that its connection can be cut."""

    stack: ExitStack
    broker: BrokerUnderTest
    protocol: Literal["auto", "3.1.1"]
    websocket: bool
    once_for_overlaps: bool
    proxies: dict[str, TcpProxy] = field(default_factory=dict)

    def bus(self, client_id: str, *, will: Will | None = None, start: bool = True) -> Bus:
        port = urlsplit(self.broker.ws_url if self.websocket else self.broker.url).port
        assert port is not None
        proxy = self.proxies[client_id] = self.stack.enter_context(TcpProxy(port))
        url = f"{'ws' if self.websocket else 'mqtt'}://127.0.0.1:{proxy.port}"
        bus = MqttBus(url, client_id, will=will, protocol=self.protocol)
        self.stack.callback(bus.close)
        assert not start or bus.start(5)
        return bus

    def cut(self, client_id: str) -> None:
        self.proxies[client_id].cut()

    def stop(self) -> None:
        self.broker.kill()

    def start(self) -> None:
        self.broker.start()


MOSQUITTO = pytest.mark.mosquitto


@pytest.fixture(
    params=[
        "memory",
        pytest.param("mosquitto-5", marks=MOSQUITTO),
        pytest.param("mosquitto-3.1.1", marks=MOSQUITTO),
        pytest.param("mosquitto-5-ws", marks=MOSQUITTO),
        "embedded-tcp",
        "embedded-ws",
    ]
)
def system(request: pytest.FixtureRequest) -> Iterator[System]:
    with ExitStack() as stack:
        name: str = request.param
        websocket = name.endswith("-ws")
        if name == "memory":
            yield MemorySystem(stack)
        elif name.startswith("mosquitto"):
            mosquitto = stack.enter_context(mosquitto_broker(websocket=websocket))
            five = name.startswith("mosquitto-5")
            yield MqttSystem(
                stack, mosquitto, "auto" if five else "3.1.1", websocket, once_for_overlaps=five
            )
        else:
            embedded = stack.enter_context(embedded_broker(websocket=websocket))
            yield MqttSystem(stack, embedded, "auto", websocket, once_for_overlaps=False)
