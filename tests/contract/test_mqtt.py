"""What only a network can do to the MQTT adapter, and what paho does to those who trust it."""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import os
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from sat_bus.contract.topics import Traffic
from sat_bus.transport.bus import Inbound, Will
from sat_bus.transport.mqtt import MqttBus
from sat_bus.transport.paho_client import UNPROVEN_S
from sat_cli.brokers.tcp_ports import find_free_port
from sat_toolkit.errors import BadRequest, ConfigError
from tests.brokers import BrokerUnderTest, embedded_broker, mosquitto_broker
from tests.fake_broker import CONNECT, DISCONNECT, NOT_AUTHORIZED, PUBACK, PUBLISH, FakeBroker
from tests.proxy import TcpProxy
from tests.waiting import Inbox, eventually

FRAMES = "sat/1/lab/dev/h/drv/d/stream/can/json"


@pytest.fixture
def fake() -> Iterator[FakeBroker]:
    with FakeBroker() as broker:
        yield broker


@pytest.fixture(params=[pytest.param("mosquitto", marks=pytest.mark.mosquitto), "embedded"])
def broker(request: pytest.FixtureRequest) -> Iterator[BrokerUnderTest]:
    with mosquitto_broker() if request.param == "mosquitto" else embedded_broker() as broker:
        yield broker


@pytest.fixture
def mosquitto() -> Iterator[BrokerUnderTest]:
    with mosquitto_broker() as broker:
        yield broker


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-days", "2", "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True, timeout=30,
    )  # fmt: skip
    return certificate, key


def fake_bus(fake: FakeBroker, **options: object) -> MqttBus:
    return MqttBus(fake.url, "bus", protocol="3.1.1", **options)  # type: ignore[arg-type]


def age(inbound: Inbound) -> float:
    """Seconds since it arrived."""
    return time.monotonic() - inbound.arrived


class TestPahoTraps:
    def test_a_fault_while_a_message_arrives_does_not_end_the_network_thread(
        self, fake: FakeBroker
    ) -> None:
        """paho: an exception in on_message ends its thread while is_connected() stays True."""
        with fake_bus(fake) as bus:
            inbox: Inbox[Inbound] = Inbox()
            bus.subscribe("#", inbox)
            assert bus.start(5)
            fake.publish(b"\xff\xfe", b"a topic that is not UTF-8")
            fake.publish(b"a", bytes(300_000))
            fake.publish(b"a", b"good")
            assert inbox.wait()[0].payload == b"good"
            assert bus.connected
            assert bus.stats().dropped == {"malformed": 1, "oversize": 1}

    def test_a_handler_that_blocks_does_not_make_the_broker_publish_our_will(
        self, broker: BrokerUnderTest
    ) -> None:
        """paho: a callback that blocks stops the keepalive."""
        entered, release = threading.Event(), threading.Event()
        wills: Inbox[Inbound] = Inbox()

        def block(_message: Inbound) -> None:
            entered.set()
            release.wait(10)

        with (
            MqttBus(broker.url, "watcher") as watcher,
            MqttBus(broker.url, "slow", will=Will("will", b"gone"), keepalive_s=1) as slow,
        ):
            watcher.subscribe("will", wills)
            slow.subscribe("work", block)
            assert watcher.start(5)
            assert slow.start(5)
            watcher.publish("work", b"")
            assert entered.wait(5)
            with pytest.raises(AssertionError):
                wills.wait(timeout=3.0)
            assert slow.connected
            release.set()

    def test_frames_outstanding_are_few_so_that_a_command_overtakes_a_thousand_of_them(
        self, fake: FakeBroker
    ) -> None:
        """paho: its own limits leave QoS 0 out, and its queue has one order."""
        fake.acknowledge = False
        with fake_bus(fake) as bus:
            assert bus.start(5)
            for _ in range(1_000):
                assert bus.publish(FRAMES, bytes(100), traffic=Traffic.FRAMES)
            assert eventually(lambda: len(fake.sent(PUBLISH)) == 4)
            assert bus.publish("command", b"now")
            assert eventually(lambda: len(fake.sent(PUBLISH)) == 5)
            assert fake.topics() == [FRAMES] * 4 + ["command"]
            assert bus.stats().frames == 996
            bus.close(0.2)

    def test_queues_are_bounded_whatever_the_broker_does(self, fake: FakeBroker) -> None:
        """paho: its queue of messages is unbounded."""
        fake.acknowledge = False
        with fake_bus(fake) as bus:
            assert bus.start(5)
            accepted = sum(bus.publish(f"c/{n}", b"x") for n in range(3_000))
            for _ in range(100):
                bus.publish(FRAMES, bytes(200_000), traffic=Traffic.FRAMES)
            stats = bus.stats()
            assert 1_000 <= accepted <= 1_000 + 8  # that wait, and those on their way
            assert stats.dropped["control_full"] == 3_000 - accepted
            assert stats.frame_bytes <= 8 << 20
            assert stats.dropped["frames_full"] > 0
            bus.close(0.2)

    def test_nothing_of_a_lost_connection_is_sent_in_the_next(self, fake: FakeBroker) -> None:
        """paho: publish() while offline says NO_CONN and still sends later; what was not
        acknowledged goes again."""
        fake.acknowledge = False
        drops: Inbox[str] = Inbox()
        with fake_bus(fake) as bus:
            assert bus.start(5)
            for number in range(20):
                bus.publish(f"c/{number}", b"x", on_drop=drops)
                bus.publish(FRAMES, b"x", traffic=Traffic.FRAMES, on_drop=drops)
            bus.publish("s", b"kept", retain=True, traffic=Traffic.STATE)
            assert eventually(lambda: len(fake.sent(PUBLISH)) == 8 + 4 + 1)
            fake.acknowledge = True
            fake.hang_up()
            assert eventually(lambda: bus.stats().reconnects == 1)
            assert bus.publish("end", b"")
            assert eventually(lambda: "end" in fake.topics(2))
            assert sorted(fake.topics(2)) == ["end", "s"]
            assert len(drops.items) == 40
            assert bus.stats().dropped == {
                "control_unacked": 8, "control_offline": 12, "frames_unacked": 4, "frames_offline": 16,
            }  # fmt: skip

    @pytest.mark.parametrize("websocket", [False, True])
    def test_small_packets_are_not_held_back(self, websocket: bool) -> None:
        """paho leaves Nagle's algorithm on."""
        with embedded_broker(websocket=True) as broker:
            url = broker.ws_url if websocket else broker.url
            with MqttBus(url, "bus") as bus:
                assert bus.start(5)
                port = int(url.rsplit(":", 1)[1])
                options = [
                    s.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                    for s in connections_to(port)
                ]
                assert options == [1]


class TestReconnect:
    def test_a_broker_that_hangs_up_on_mqtt_5_is_tried_with_3_1_1(self, fake: FakeBroker) -> None:
        fake.hang_up_on_version_5 = True
        with MqttBus(fake.url, "bus") as bus:
            assert bus.start(5)
            assert bus.protocol == "3.1.1"
            assert [p.version for p in fake.sent(CONNECT)] == [5, 4]
            fake.hang_up()
            assert eventually(lambda: bus.stats().reconnects == 1)
            assert fake.sent(CONNECT)[-1].version == 4, "what has worked is remembered"

    def test_a_broker_without_mqtt_5_is_reached_at_once_also_with_a_will(self) -> None:
        with (
            embedded_broker() as broker,
            MqttBus(broker.url, "bus", will=Will("w", b"gone")) as bus,
        ):
            began = time.monotonic()
            assert bus.start(5)
            assert time.monotonic() - began < 1.0
            assert bus.protocol == "3.1.1"

    def test_a_version_that_the_broker_does_not_speak_is_said(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        with embedded_broker() as broker, MqttBus(broker.url, "bus", protocol="5") as bus:
            assert not bus.start(0.5)
            assert "Unsupported protocol version" in bus.problem
        assert len(complaints(caplog)) == 1

    @pytest.mark.mosquitto
    def test_mqtt_5_survives_a_restart_of_the_broker(self, mosquitto: BrokerUnderTest) -> None:
        with MqttBus(mosquitto.url, "bus") as bus:
            assert bus.start(5)
            mosquitto.kill()
            assert eventually(lambda: not bus.connected)
            mosquitto.start()
            assert eventually(lambda: bus.connected)
            assert bus.protocol == "5"

    def test_a_refusal_is_said_once_with_the_next_step_and_tried_again(
        self, fake: FakeBroker, caplog: pytest.LogCaptureFixture
    ) -> None:  # fmt: skip
        fake.connack = NOT_AUTHORIZED
        with MqttBus(fake.url.replace("//", "//rack:hush@"), "bus", protocol="3.1.1") as bus:
            assert not bus.start(0.1)
            assert eventually(lambda: fake.connections >= 3)
            fake.connack = 0
            assert bus.start(5)
        (complaint,) = complaints(caplog)
        assert "Not authorized: check the user and password in the broker URL" in complaint
        assert "hush" not in caplog.text

    def test_an_absent_broker_is_said_once_and_tried_with_growing_delays(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:  # fmt: skip
        with MqttBus(f"mqtt://127.0.0.1:{find_free_port()}", "bus") as bus:
            assert not bus.start(1.0)
            assert bus.refused
        (complaint,) = complaints(caplog)
        assert "Connection refused" in complaint

    def test_a_broker_that_comes_back_is_not_refused_any_more(self) -> None:
        with embedded_broker() as broker, MqttBus(broker.url, "bus") as bus:
            assert bus.start(5)
            assert not bus.refused
            broker.kill()
            assert eventually(lambda: bus.refused)
            broker.start()
            assert bus.start(5)
            assert not bus.refused

    def test_a_host_that_does_not_exist_is_said(self, caplog: pytest.LogCaptureFixture) -> None:
        with MqttBus("mqtt://no-such-host.invalid", "bus") as bus:
            bus.start()
            assert eventually(lambda: bool(complaints(caplog)))
            assert not bus.connected

    def test_a_silent_broker_does_not_hold_up_the_close(self, fake: FakeBroker) -> None:
        fake.connack = None
        with fake_bus(fake) as bus:
            assert not bus.start(0.2)
            began = time.monotonic()
            bus.close()
            assert time.monotonic() - began < 1.0

    def test_a_silent_broker_is_given_up_and_tried_again(self, fake: FakeBroker) -> None:
        fake.connack = None
        with fake_bus(fake) as bus:
            bus.start()
            assert eventually(lambda: fake.connections == 2)
            fake.connack = 0
            assert "no answer within 3 s" in bus.problem
            assert not bus.refused
            fake.hang_up()
            assert bus.start(5)

    def test_a_silent_network_is_noticed_on_both_sides(self, broker: BrokerUnderTest) -> None:
        wills: Inbox[Inbound] = Inbox()
        news: Inbox[bool] = Inbox()
        with (
            TcpProxy(broker.port) as proxy,
            MqttBus(broker.url, "watcher") as watcher,
            MqttBus(
                f"mqtt://127.0.0.1:{proxy.port}", "lost", will=Will("will", b"gone"), keepalive_s=1
            ) as lost,
        ):
            watcher.subscribe("will", wills)
            lost.on_connection(news)
            assert watcher.start(5)
            assert lost.start(5)
            proxy.freeze()
            assert wills.wait()[0].payload == b"gone"
            news.wait_for(lambda items: items[-1:] == [False])
            proxy.freeze(False)
            proxy.cut()
            news.wait_for(lambda items: items[-1])

    @pytest.mark.parametrize("websocket", [False, True], ids=["tcp", "websocket"])
    def test_what_a_link_held_back_counts_from_when_the_link_was_last_alive(
        self, websocket: bool
    ) -> None:
        """TCP brings after a cut all that was sent in it, and it looks like new."""
        inbox: Inbox[Inbound] = Inbox()
        with embedded_broker(websocket=websocket) as broker:
            url = urlsplit(broker.ws_url if websocket else broker.url)
            assert url.port is not None
            with (
                TcpProxy(url.port) as proxy,
                MqttBus(broker.url, "asker") as asker,
                MqttBus(url._replace(netloc=f"127.0.0.1:{proxy.port}").geturl(), "bus") as bus,
            ):
                bus.subscribe("a", inbox)
                assert asker.start(5)
                assert bus.start(5)
                asker.publish("a", b"on a live link")
                assert age(inbox.wait()[0]) < 1.0
                proxy.stall()
                asker.publish("a", b"on a dead link")
                threading.Event().wait(UNPROVEN_S + 1.5)  # the length of the stall is the test
                proxy.stall(False)
                assert age(inbox.wait(2)[1]) > 1.0
                # The link is alive again once the broker has answered.
                count = itertools.count(3)
                assert eventually(
                    lambda: asker.publish("a", b"") and age(inbox.wait(next(count))[-1]) < 1.0
                )

    @pytest.mark.mosquitto
    def test_two_of_one_name_do_not_storm_and_are_told(
        self, mosquitto: BrokerUnderTest, caplog: pytest.LogCaptureFixture
    ) -> None:  # fmt: skip
        with MqttBus(mosquitto.url, "twin") as one, MqttBus(mosquitto.url, "twin") as other:
            assert one.start(5)
            assert other.start(5)
            assert eventually(lambda: one.stats().reconnects + other.stats().reconnects >= 4)
            began, before = time.monotonic(), one.stats().reconnects + other.stats().reconnects
            eventually(lambda: time.monotonic() - began > 2)
            assert one.stats().reconnects + other.stats().reconnects - before <= 8
        told = [
            complaint
            for complaint in complaints(caplog)
            if "does another client use the id 'twin'?" in complaint
        ]
        assert 1 <= len(told) <= 2


class TestProtocol:
    @pytest.mark.mosquitto
    def test_mqtt_5_carries_what_3_1_1_leaves_out(self, mosquitto: BrokerUnderTest) -> None:
        seen: Inbox[paho.MQTTMessage] = Inbox()
        inbox: Inbox[Inbound] = Inbox()
        with (
            raw_client(mosquitto.port, seen),
            MqttBus(mosquitto.url, "five") as five,
            MqttBus(mosquitto.url, "three", protocol="3.1.1") as three,
        ):
            five.subscribe("t/#", inbox)
            assert five.start(5)
            assert three.start(5)
            for bus in (five, three):
                assert bus.publish(
                    "t/x", b"1", response_topic="r/x", correlation=b"\0\1", expiry_s=2.5, traceparent="00-ab-cd-01"
                )  # fmt: skip
                assert bus.flush(5)
            inbox.wait(2)
            seen.wait(2)
        assert inbox.items == [
            Inbound("t/x", b"1", False, "r/x", b"\0\1", "00-ab-cd-01"),
            Inbound("t/x", b"1"),
        ]
        assert seen.items[0].properties.MessageExpiryInterval == 3
        assert not hasattr(seen.items[1].properties, "MessageExpiryInterval")

    @pytest.mark.mosquitto
    def test_a_message_may_expire_later_than_mqtt_can_say(self, mosquitto: BrokerUnderTest) -> None:
        seen: Inbox[paho.MQTTMessage] = Inbox()
        with raw_client(mosquitto.port, seen), MqttBus(mosquitto.url, "five") as five:
            assert five.start(5)
            assert five.publish("t/x", b"1", expiry_s=math.inf)
            assert five.flush(5)
            (message,) = seen.wait()
        assert message.properties.MessageExpiryInterval > 4_000_000_000

    def test_a_refused_subscription_is_said(
        self, fake: FakeBroker, caplog: pytest.LogCaptureFixture
    ) -> None:
        fake.suback = 0x80
        with fake_bus(fake) as bus:
            bus.subscribe("secret/#", print)
            assert bus.start(5)
        assert "the broker refuses bus the subscription to secret/#" in caplog.text

    def test_a_close_says_goodbye(self, fake: FakeBroker) -> None:
        bus = fake_bus(fake)
        assert bus.start(5)
        bus.close()
        assert eventually(lambda: len(fake.sent(DISCONNECT)) == 1)

    def test_sessions_are_clean(self, fake: FakeBroker) -> None:
        with fake_bus(fake, will=Will("w", b"gone")) as bus:
            assert bus.start(5)
        (connect,) = fake.sent(CONNECT)
        flags = connect.body[7]
        assert flags & 0x02, "clean session"
        assert flags & 0x3C == 0x2C, "a will, QoS 1, retained"
        assert struct.unpack("!H", connect.body[8:10])[0] == 5

    def test_messages_arrive_and_are_acknowledged_in_order_however_they_are_cut(
        self, fake: FakeBroker
    ) -> None:
        inbox: Inbox[Inbound] = Inbox()
        with fake_bus(fake) as bus:
            bus.subscribe("#", inbox)
            assert bus.start(5)
            payloads = [b"%d" % n * n for n in range(30)]
            stream = b"".join(
                fake.request(b"t", payload, 1 + n) for n, payload in enumerate(payloads)
            )
            stream += fake.request(b"t", b"x" * 100_000, 31) + fake.request(b"t", b"last", 32)
            at, step = 0, 1
            while at < len(stream):
                fake.send(stream[at : at + step])
                at, step = at + step, step % 7 + 1 if at < 1_500 else 20_000
            received = inbox.wait(32)
            assert eventually(lambda: len(fake.sent(PUBACK)) == 32)
        assert [message.payload for message in received] == [*payloads, b"x" * 100_000, b"last"]
        assert [int.from_bytes(ack.body, "big") for ack in fake.sent(PUBACK)] == list(range(1, 33))

    def test_a_reply_goes_out_before_the_ack_of_its_request(self, fake: FakeBroker) -> None:
        """Mosquitto may save itself to disk at each ack, and keeps the reply waiting meanwhile."""
        with fake_bus(fake) as bus:

            def at_once(job: Callable[[], None]) -> bool:
                job()
                return True

            def reply(request: Inbound) -> None:
                bus.publish("reply", request.payload)

            bus.deliver_on(at_once)
            bus.subscribe("request", reply)
            assert bus.start(5)
            for number in range(1, 4):
                fake.send(fake.request(b"request", b"", number))
                assert eventually(lambda number=number: len(fake.sent(PUBACK)) == number)
            kinds = [p.kind for p in fake.packets.items if p.kind in (PUBLISH, PUBACK)]
            assert kinds == [PUBLISH, PUBACK] * 3

    def test_a_bus_that_was_never_started_closes(self) -> None:
        MqttBus("mqtt://127.0.0.1", "bus").close()

    def test_refuses_names_that_are_none(self) -> None:
        with pytest.raises(BadRequest):
            MqttBus("mqtt://127.0.0.1", "a client")
        with pytest.raises(BadRequest):
            MqttBus("mqtt://127.0.0.1", "bus", will=Will("w/#", b""))
        with pytest.raises(ConfigError):
            MqttBus("http://127.0.0.1", "bus")


class TestTls:
    @pytest.fixture
    def secure(self, certificate: tuple[Path, Path]) -> Iterator[FakeBroker]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        with FakeBroker(context) as broker:
            yield broker

    def test_a_trusted_certificate_connects(
        self, secure: FakeBroker, certificate: tuple[Path, Path]
    ) -> None:
        inbox: Inbox[Inbound] = Inbox()
        with fake_bus(secure, tls_ca=certificate[0]) as bus:
            bus.subscribe("#", inbox)
            assert bus.start(5)
            for number in range(100):
                secure.publish(b"a", b"%d" % number)
            assert [int(m.payload) for m in inbox.wait(100)] == list(range(100))

    def test_an_unknown_certificate_does_not(self, secure: FakeBroker) -> None:
        with fake_bus(secure) as bus:
            assert not bus.start(0.5)
            assert "certificate verify failed" in bus.problem

    def test_a_file_without_certificates_is_refused(self, tmp_path: Path) -> None:
        for content in (None, "nonsense"):
            path = tmp_path / "ca.pem"
            if content is not None:
                path.write_text(content)
            with pytest.raises(ConfigError, match="PEM certificates"):
                MqttBus("mqtts://127.0.0.1", "bus", tls_ca=path)


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the network layer has said about connections that failed."""
    records = [
        r
        for r in caplog.records
        if r.name == "sat_bus.transport.network" and r.levelno >= logging.WARNING
    ]
    return [record.getMessage() for record in records]


def connections_to(port: int) -> Iterator[socket.socket]:
    """The sockets of this process that are connected to `port`."""
    for entry in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(entry))) as sock:
            if sock.family == socket.AF_INET and sock.getpeername()[1] == port:
                yield sock


@contextlib.contextmanager
def raw_client(port: int, seen: Inbox[paho.MQTTMessage]) -> Iterator[None]:
    """A client of MQTT 5 that shows messages with all of their properties."""
    client = paho.Client(CallbackAPIVersion.VERSION2, "raw", protocol=paho.MQTTv5)
    subscribed = threading.Event()
    client.on_message = lambda _client, _data, message: seen(message)
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_connect = lambda client, *_: client.subscribe("t/#", 1)
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        assert subscribed.wait(5)
        yield
    finally:
        client.disconnect()
        client.loop_stop()
