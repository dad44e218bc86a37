"""A client that asks and waits for the answer; states and replies by MQTT, as any client of the bus
sees them."""

from __future__ import annotations

import json
import threading
from itertools import count
from typing import Any, Self

import paho.mqtt.client as mqtt

from tests.bench.peers.wire import connected

DEADLINE = 120.0  # software emulation on a busy machine


class Asker:
    """Requests on the bus of site ``lab``, one at a time."""

    def __init__(self, port: int, name: str) -> None:
        self._latest: dict[str, bytes] = {}
        self._changed = threading.Condition()
        self._prefix = f"sat/1/lab/reply/{name}"
        self._ids = count(1)
        self._client = connected(port, name)
        self._client.on_message = self._on_message
        self._client.subscribe([(f"{self._prefix}/+", 1), ("sat/1/lab/dev/+/+/+/state", 1)])

    def wait(self, topic: str, payload: bytes) -> None:
        """Wait until the newest message of `topic` is `payload`."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._latest.get(topic) == payload, DEADLINE):
                raise RuntimeError(
                    f"{topic} is {self._latest.get(topic)!r}, not {payload!r}, after {DEADLINE} s"
                )

    def ask(self, topic: str, args: dict[str, Any]) -> Any:
        """The result of a request; a refusal is an error."""
        number = next(self._ids)
        reply_to = f"{self._prefix}/{number}"
        request = {
            "args": args,
            "request_id": f"{self._prefix[-8:].replace('/', '-')}{number}",
            "reply_to": reply_to,
        }
        self._client.publish(topic, json.dumps(request), qos=1)
        with self._changed:
            if not self._changed.wait_for(lambda: reply_to in self._latest, DEADLINE):
                raise RuntimeError(f"no reply to {topic} in {DEADLINE} s")
            reply = json.loads(self._latest.pop(reply_to))
        if reply["status"] != "ok":
            raise RuntimeError(f"{topic} {args}: {reply['message']}")
        return reply.get("result")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        with self._changed:
            self._latest[message.topic] = bytes(message.payload)
            self._changed.notify_all()
