"""The brokers that we start: that they come up, say why they do not, end with us, and let no web
page in."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect as websocket
from websockets.typing import Origin, Subprotocol

from sat_bus.contract.topics import Traffic
from sat_bus.transport.bus import Inbound, Will
from sat_bus.transport.mqtt import MqttBus
from sat_cli.brokers.embedded import EmbeddedBroker, origin_allowed
from sat_toolkit.errors import ConfigError
from tests.brokers import BrokerUnderTest, embedded_broker
from tests.waiting import Inbox


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


class TestEmbedded:
    def test_starts_and_stops_again_and_again(self) -> None:
        broker = EmbeddedBroker(port=0, ws_port=0)
        for _ in range(3):
            broker.start()
            assert answers(broker.port)
            assert broker.ws_port is not None
            assert answers(broker.ws_port)
            broker.stop()
            assert not broker.running
            assert not answers(broker.port)
        broker.stop()

    def test_a_taken_port_is_said(self) -> None:
        with (
            embedded_broker() as broker,
            pytest.raises(ConfigError, match=rf"port {broker.port} .*is taken"),
        ):
            EmbeddedBroker(port=broker.port).start()

    def test_listens_on_ipv6_too(self) -> None:
        if not Path("/proc/net/if_inet6").exists():
            pytest.skip("this machine has no IPv6")
        broker = EmbeddedBroker("::1", port=0)
        broker.start()
        with MqttBus(broker.url, "bus") as bus:
            assert bus.start(5)
        broker.stop()

    def test_a_client_that_is_taken_over_leaves_its_will_before_the_other_speaks(self) -> None:
        with embedded_broker() as broker, MqttBus(broker.url, "watcher") as watcher:
            inbox: Inbox[Inbound] = Inbox()
            watcher.subscribe("w", inbox)
            assert watcher.start(5)
            with MqttBus(broker.url, "host", will=Will("w", b"old boot")) as old:
                assert old.start(5)
                with MqttBus(broker.url, "host") as new:
                    new.publish("w", b"new boot", retain=True, traffic=Traffic.STATE)
                    assert new.start(5)
                    assert [message.payload for message in inbox.wait(2)][:2] == [
                        b"old boot",
                        b"new boot",
                    ]

    def test_a_silent_client_leaves_its_will(self) -> None:
        keepalive_of_1_s_and_a_will = b"\x10\x17\0\4MQTT\4\x2e\0\1\0\6silent\0\1w\0\0"
        with embedded_broker() as broker, MqttBus(broker.url, "watcher") as watcher:
            inbox: Inbox[Inbound] = Inbox()
            watcher.subscribe("w", inbox)
            assert watcher.start(5)
            with socket.create_connection(("127.0.0.1", broker.port), 2) as sock:
                sock.sendall(keepalive_of_1_s_and_a_will)
                assert sock.recv(4) == b"\x20\2\0\0"
                assert inbox.wait()[0].topic == "w"

    def test_a_newcomer_gets_no_retained_messages_that_only_others_subscribed_to(self) -> None:
        with embedded_broker() as broker, MqttBus(broker.url, "watcher") as watcher:
            inbox: Inbox[Inbound] = Inbox()
            watcher.subscribe("#", inbox)
            assert watcher.start(5)
            watcher.publish("s", b"secret", retain=True, traffic=Traffic.STATE)
            inbox.wait()
            with (
                socket.create_connection(("127.0.0.1", broker.port), 2) as sock,
                sock.makefile("rb") as received,
            ):
                sock.sendall(b"\x10\x0d\0\4MQTT\4\2\0\0\0\1n" + b"\x82\6\0\1\0\1x\0")
                assert received.read(9) == b"\x20\2\0\0" + b"\x90\3\0\1\0"

    @pytest.mark.parametrize(
        "nonsense", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\x10\xff\xff\xff\xff\xff", b"\x10\x02\x00"]
    )
    def test_nonsense_harms_nobody(self, nonsense: bytes) -> None:
        with embedded_broker() as broker, MqttBus(broker.url, "bus") as bus:
            assert bus.start(5)
            with socket.create_connection(("127.0.0.1", broker.port), 2) as sock:
                sock.sendall(nonsense)
            inbox: Inbox[Inbound] = Inbox()
            bus.subscribe("a", inbox)
            bus.publish("a", b"alive")
            inbox.wait()
            assert bus.stats().reconnects == 0


class TestOrigin:
    """A web page anywhere may open a WebSocket to this machine; only the Origin tells."""

    def upgrade(self, broker: BrokerUnderTest, origin: str | None) -> int:
        try:
            with websocket(
                broker.ws_url, origin=None if origin is None else Origin(origin), subprotocols=[Subprotocol("mqtt")]
            ):  # fmt: skip
                return 101
        except InvalidStatus as error:
            return error.response.status_code

    def test_foreign_pages_are_refused(self) -> None:
        with embedded_broker(websocket=True, allowed_origins=("https://bench.example",)) as broker:
            port = broker.ws_url.rsplit(":", 1)[1]
            assert self.upgrade(broker, None) == 101
            assert self.upgrade(broker, f"http://127.0.0.1:{port}") == 101
            assert self.upgrade(broker, "http://127.0.0.1:1880") == 101
            assert self.upgrade(broker, "https://bench.example") == 101
            assert self.upgrade(broker, "https://evil.example") == 403
            assert self.upgrade(broker, "http://localhost") == 403
            assert self.upgrade(broker, "null") == 403

    @pytest.mark.parametrize(("origin", "host", "allowed"), [
        ("http://127.0.0.1:8080", "127.0.0.1:9001", True),
        ("http://localhost:8080", "localhost:9001", True),
        ("http://[::1]:8080", "[::1]:9001", True),
        ("http://192.0.2.7", "192.0.2.7:9001", True),
        ("http://evil.example:9001", "evil.example:9001", False),  # DNS rebinding
        ("http://evil.example", "127.0.0.1:9001", False),
        ("http://127.0.0.1.evil.example", "127.0.0.1:9001", False),
        ("http://127.0.0.1@evil.example", "127.0.0.1:9001", False),
        ("https://ok.example", "127.0.0.1:9001", True),
        ("https://ok.example:444", "127.0.0.1:9001", False),
        ("null", "127.0.0.1", False), ("file://", "127.0.0.1", False), ("", "", False), ("http://[", "x", False),
    ])  # fmt: skip
    def test_rule(self, origin: str, host: str, allowed: bool) -> None:
        assert origin_allowed(origin, host, frozenset({"https://ok.example"})) is allowed
