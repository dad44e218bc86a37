"""Status messages of 300 devices into the shipped orchestrator on a SQLite file: validated, its
table updated, the next action planned, its rows published, its database written behind; and in turn
into a bare paho client whose callback counts them. The reader is stopped (SIGSTOP) while the broker
takes 20,000 messages for it at QoS 1, and timed from its awakening: to the row of a device that the
very last message makes known, or to the last call of the callback."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt

from sat_bus.contract import messages, topics
from sat_bus.contract.boot import new_boot
from sat_toolkit.core.device_spec import DeviceState
from tests.bench import harness
from tests.bench.flood import Sleep, patient_broker
from tests.bench.peers.wire import connected
from tests.bench.report import Row

TITLE = "Status messages into the orchestrator"
SITE, HOST, DRIVER = "bench", "bench1-can", "drv_socketcan"
FILTER = topics.DEVICE_STATUS.filters(SITE)[0]
DEVICES = 300
POLICY = json.dumps([{"match": "*", "level": "connected", "streams": {"can": {}}}])
DEADLINE_S = 60.0


def run(context: harness.Context) -> list[Row]:
    """Feed both in turn."""
    count = 1_000 if context.quick else 20_000
    ours, bare = [], []
    for _ in range(context.repetitions):
        bare.append(count / _peer(count))
        ours.append(count / _orchestrator(count))
    return [
        Row("messages taken in", "1/s", ours, bare, "bare paho callback that counts", at_least=0.6)
    ]


def _peer(count: int) -> float:
    """Seconds that a bare client takes for `count` messages."""
    with patient_broker() as broker, Feeder(broker.port) as feeder:
        command = [
            sys.executable,
            "-m",
            "tests.bench.peers.counter",
            str(broker.port),
            FILTER,
            str(count + 1),
        ]
        with harness.Program("counter", command) as peer:
            peer.need("ready")
            began = feeder.flood(peer.pid, count)
            peer.need("all", DEADLINE_S)
            return time.monotonic() - began


def _orchestrator(count: int) -> float:
    """Seconds that the orchestrator takes for them."""
    with (
        tempfile.TemporaryDirectory() as folder,
        patient_broker() as broker,
        Feeder(broker.port) as feeder,
    ):
        database = f"sqlite:///{Path(folder) / 'orchestrator.db'}"
        env = {
            "SAT_BROKER_URL": broker.url,
            "SAT_SITE": SITE,
            "SAT_DATABASE_URL": database,
            "SAT_POLICY": POLICY,
        }
        with harness.Program(
            "sat orchestrator", [sys.executable, "-m", "sat_cli", "orchestrator"], env
        ) as ours:
            feeder.introduce()
            began = feeder.flood(ours.pid, count)
            feeder.wait(lambda: f"{DEVICES}" in feeder.rows, "the last device's row")
            seconds = time.monotonic() - began
            feeder.check_health()
            return seconds


class Feeder:
    """Plays a host of many devices, and watches the orchestrator's table."""

    def __init__(self, port: int) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self._boot = new_boot(int(time.time() * 1000), os.urandom(4))
        self._revs = 0
        self._beats = 0
        self._health: dict[str, Any] = {}
        self._changed = threading.Condition()
        self._over = threading.Event()
        self._client = connected(port, "feeder")
        self._client.on_message = self._on_message
        self._client.subscribe(
            [(topics.TABLE_ROW.filters(SITE)[0], 0), (topics.ORCHESTRATOR_HEALTH.build(SITE), 0)]
        )
        self._heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def introduce(self) -> None:
        """Have all devices known to the orchestrator, but for the last one."""
        self._publish(topics.HOST_STATE, messages.HostState(state="ready", boot=self._boot))
        birth = messages.Birth(
            boot=self._boot,
            family="can",
            drivers=[messages.DriverInfo(name=DRIVER)],
            manifest=messages.Manifest(count=DEVICES, rev=DEVICES),
            epoch_seen=0,
            version="0",
            clock=time.time(),
        )
        self._publish(topics.HOST_BIRTH, birth)
        self._heart.start()
        for number in range(DEVICES):
            meta = messages.Meta(name=f"CAN {number}", device_type="SocketCAN", streams=["can"])
            self._publish(topics.DEVICE_META, meta, str(number))
            self._status(number, DeviceState.CONNECTED)
        self.wait(lambda: len(self.rows) == DEVICES, "all rows")
        self.wait(
            lambda: self._health and not self._health["queues"]["store"],
            "the end of the database's work",
        )

    def flood(self, reader: int, count: int) -> float:
        """Have `count` messages and one of the last device wait for the process `reader`; when it
        was woken."""
        with Sleep(reader) as sleep:
            for number in range(count):
                turn, device = divmod(number, DEVICES)
                self._status(device, DeviceState.CONNECTED if turn % 2 else DeviceState.ACTIVE)
            self._status(DEVICES, DeviceState.CONNECTED).wait_for_publish(DEADLINE_S)
        return sleep.woken

    def wait(self, condition: Any, what: str) -> None:
        """Wait until `condition` holds, which is looked at after each message."""
        with self._changed:
            if not self._changed.wait_for(condition, DEADLINE_S):
                raise RuntimeError(f"in vain: {what}; {len(self.rows)} rows, {self._health}")

    def check_health(self) -> None:
        """Nothing may have been dropped on the way into the table."""
        with self._changed:
            self._health = {}
        self.wait(lambda: self._health, "the orchestrator's health")
        lost = {
            cause: self._health["drops"].get(cause, 0)
            for cause in ("inbox_full", "loop_full", "garbage")
        }
        if any(lost.values()) or self._health["bus"]["reconnects"]:
            raise RuntimeError(f"the orchestrator lost messages: {self._health}")

    def __enter__(self) -> Feeder:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._heart.ident is not None:
            self._heart.join()
        self._client.disconnect()
        self._client.loop_stop()

    def _status(self, device: int, state: DeviceState) -> mqtt.MQTTMessageInfo:
        self._revs += 1
        running = messages.StreamStatus(state="running", stream=f"{self._boot}-1", by="policy")
        status = messages.Status(
            state=state,
            previous=DeviceState.INITIALIZED,
            since=round(time.time(), 3),
            rev=self._revs,
            boot=self._boot,
            by="orchestrator",
            operation="start",
            acquiring=True,
            streams={"can": running},
        )
        return self._publish(topics.DEVICE_STATUS, status, str(device))

    def _publish(
        self, topic: topics.Topic, message: messages.Message, device: str = ""
    ) -> mqtt.MQTTMessageInfo:
        levels = {"host": HOST} | ({"driver": DRIVER, "device": device} if device else {})
        return self._client.publish(
            topic.build(SITE, **levels), message.encode(), topic.qos, topic.retain
        )

    def _beat(self) -> None:
        while not self._over.wait(0.0 if not self._beats else 1.0):
            self._beats += 1
            beat = messages.Heartbeat(
                boot=self._boot, n=self._beats, mono_ms=int(time.monotonic() * 1000)
            )
            self._publish(topics.HOST_HEARTBEAT, beat)

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        with self._changed:
            if message.topic.endswith("/health"):
                self._health = json.loads(message.payload)
            else:
                self.rows[message.topic.rpartition("/")[2]] = json.loads(message.payload)
            self._changed.notify_all()
