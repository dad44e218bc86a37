"""A rack asks and waits for the answer, again and again: a command of a device at the shipped host,
through its schema check, its worker process and back, and in turn the same exchange with a bare
paho client that sends back what it gets, 50 of each in a row. All of it at QoS 1, on one Mosquitto,
with TCP_NODELAY; the asking client is the same."""

from __future__ import annotations

import itertools
import json
import sys
import threading
import time
from typing import Any

import paho.mqtt.client as paho

from tests.bench import harness
from tests.bench.peers.wire import connected
from tests.bench.report import Row

TITLE = "Round trip of a command"
SITE, HOST, CLIENT = "bench", "bench-echo", "rack"
DEVICE = f"sat/1/{SITE}/dev/{HOST}/drv_echo/echo"
REPLIES = f"sat/1/{SITE}/reply/{CLIENT}/1"
PEER_REQUEST, PEER_REPLY = "bench/echo/request", "bench/echo/reply"
ARGS = {"id": "0x123", "data": "deadbeefcafe0123"}
IN_A_ROW = 50
DEADLINE_S = 20.0


def run(context: harness.Context) -> list[Row]:
    """Ask both in turn."""
    ours, bare = [], []
    for _ in range(context.repetitions):
        a, b = measure(context, 50 if context.quick else 2_000)
        ours.append(a)
        bare.append(b)

    def row(share: float, at_most: float | None = None) -> Row:
        mine, peer = (
            [harness.percentile(one, share) * 1e3 for one in side] for side in (ours, bare)
        )
        return Row(
            f"p{share * 100:g}", "ms", mine, peer, "bare paho request and reply", at_most=at_most
        )

    return [row(0.5, at_most=1.5), row(0.99)]


def measure(context: harness.Context, count: int) -> tuple[list[float], list[float]]:
    """Seconds of each exchange, sorted: ours and the peer's, some in a row of each in turn; the
    first row warms up."""
    with context.broker() as broker:
        env = {
            "SAT_BROKER_URL": broker.url,
            "SAT_SITE": SITE,
            "SAT_PLUGINS": str(harness.FOLDER / "plugins"),
        }
        command = [sys.executable, "-m", "sat_cli", "host", "--family", "echo", "--name", HOST]
        peer_command = [
            sys.executable,
            "-m",
            "tests.bench.peers.echo",
            str(broker.port),
            PEER_REQUEST,
            PEER_REPLY,
        ]
        with (
            harness.Program("sat host", command, env),
            harness.Program("echo", peer_command) as peer,
        ):
            peer.need("ready")
            rack = Rack(broker.port)
            rack.wait_for_device()
            ours: list[float] = []
            bare: list[float] = []
            for _ in range(1 + count // IN_A_ROW):
                ours.extend(rack.ask_ours() for _ in range(IN_A_ROW))
                bare.extend(rack.ask_peer() for _ in range(IN_A_ROW))
            rack.close()
            return sorted(ours[IN_A_ROW:]), sorted(bare[IN_A_ROW:])


class Rack:
    """A client that asks one thing at a time."""

    def __init__(self, port: int) -> None:
        self._ids = itertools.count(1)
        self._arrived = threading.Event()
        self._discovered = threading.Event()
        self._reply: dict[str, Any] = {}
        self._client = connected(port, CLIENT)
        self._client.on_message = self._on_message
        subscribed = threading.Event()
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.subscribe([(REPLIES, 1), (PEER_REPLY, 1), (f"{DEVICE}/state", 1)])
        if not subscribed.wait(DEADLINE_S):
            raise RuntimeError("the broker confirms no subscription")

    def ask_ours(self) -> float:
        """Seconds that a command of the device takes."""
        return self._ask(f"{DEVICE}/cmd/echo/{CLIENT}", ARGS, reply_to=REPLIES)

    def ask_peer(self) -> float:
        """Seconds that the peer takes."""
        return self._ask(PEER_REQUEST, ARGS)

    def wait_for_device(self) -> None:
        """Have the device connected, as soon as it is there."""
        if not self._discovered.wait(DEADLINE_S):
            raise RuntimeError("the host finds no device")
        self._ask(
            f"sat/1/{SITE}/host/{HOST}/req/connect",
            {"driver": "drv_echo", "device": "echo"},
            reply_to=REPLIES,
        )

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _ask(self, topic: str, args: dict[str, Any], **fields: str) -> float:
        request = {"args": args, "request_id": f"r{next(self._ids)}", **fields}
        self._arrived.clear()
        began = time.perf_counter()
        self._client.publish(topic, json.dumps(request), qos=1)
        if not self._arrived.wait(DEADLINE_S):
            raise TimeoutError(f"no reply to {topic}")
        seconds = time.perf_counter() - began
        if self._reply["status"] != "ok" or self._reply["request_id"] != request["request_id"]:
            raise RuntimeError(f"{topic}: {self._reply}")
        return seconds

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        if message.payload == b"discovered":
            self._discovered.set()
        elif message.payload[:1] == b"{":
            self._reply = json.loads(message.payload)
            self._arrived.set()
