"""Mosquitto as `sat up` runs it: what it keeps, what it opens, and how it ends."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from sat_bus.contract.topics import Traffic
from sat_bus.transport.bus import Inbound
from sat_bus.transport.mqtt import MqttBus
from sat_cli.brokers.mosquitto import MosquittoBroker
from sat_toolkit.errors import ConfigError
from tests.brokers import mosquitto_broker, need_mosquitto
from tests.waiting import Inbox, eventually


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@pytest.mark.mosquitto
class TestMosquitto:
    def test_keeps_what_is_retained_over_a_restart(self) -> None:
        with mosquitto_broker() as broker, MqttBus(broker.url, "bus") as bus:
            inbox: Inbox[Inbound] = Inbox()
            assert bus.start(5)
            bus.publish("s", b"kept", retain=True, traffic=Traffic.STATE)
            assert bus.flush(5)
            broker.stop()
            broker.start()
            bus.subscribe("s", inbox)
            assert inbox.wait()[0].payload == b"kept"

    def test_is_wiped(self) -> None:
        with mosquitto_broker() as broker:
            with MqttBus(broker.url, "bus") as bus:
                assert bus.start(5)
                bus.publish("s", b"gone", retain=True, traffic=Traffic.STATE)
                assert bus.flush(5)
            broker.wipe()
            with MqttBus(broker.url, "bus") as bus:
                inbox: Inbox[Inbound] = Inbox()
                bus.subscribe("#", inbox)
                assert bus.start(5)
                bus.publish("end", b"")
                assert [message.topic for message in inbox.wait()] == ["end"]

    def test_a_taken_port_is_said(self, tmp_path: Path) -> None:
        with mosquitto_broker() as broker:
            other = MosquittoBroker(need_mosquitto(), port=broker.port, data_dir=tmp_path)
            with pytest.raises(ConfigError, match=r"is taken by mosquitto \(pid \d+\)"):
                other.start()

    def test_a_broker_that_does_not_come_up_says_its_last_words(self, tmp_path: Path) -> None:
        program = tmp_path / "broken"
        program.write_text("#!/bin/sh\necho out of order; exit 3\n")
        program.chmod(0o755)
        with pytest.raises(ConfigError, match="does not come up: out of order"):
            MosquittoBroker(str(program), port=0, data_dir=tmp_path).start()

    @pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
    def test_ends_with_the_process_that_started_it(
        self, tmp_path: Path, how: signal.Signals
    ) -> None:
        program = (
            "import sys\nfrom pathlib import Path\nfrom sat_cli.brokers.mosquitto import MosquittoBroker\n"
            "broker = MosquittoBroker(sys.argv[1], port=0, data_dir=Path(sys.argv[2]))\n"
            "broker.start()\nprint(broker.port, flush=True)\nsys.stdin.read()\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", program, need_mosquitto(), str(tmp_path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            assert process.stdout is not None
            port = int(process.stdout.readline())
            assert answers(port)
            process.send_signal(how)
        assert eventually(lambda: not answers(port))

    def test_has_no_websocket_listener_unless_asked(self, tmp_path: Path) -> None:
        broker = MosquittoBroker(need_mosquitto(), port=0, data_dir=tmp_path)
        broker.start()
        broker.stop()
        config = (tmp_path / "mosquitto.conf").read_text()
        assert "websockets" not in config
        assert re.findall(r"^listener .*$", config, re.M) == [f"listener {broker.port} 127.0.0.1"]
        assert "set_tcp_nodelay true" in config
