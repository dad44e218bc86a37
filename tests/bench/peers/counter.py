"""The fastest that paho takes messages in: its callback counts them, and that is all.

``python -m tests.bench.peers.counter PORT FILTER COUNT``
"""

from __future__ import annotations

import sys
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from tests.bench.harness import say


def main(port: int, subscription: str, count: int) -> None:
    """Count to `count`, then say so."""
    seen = 0

    def on_message(_client: mqtt.Client, _data: Any, _message: mqtt.MQTTMessage) -> None:
        nonlocal seen
        seen += 1
        if seen == count:
            say("all")

    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.on_message = on_message
    client.on_subscribe = lambda *_: say("ready")
    client.connect("127.0.0.1", port)
    client.subscribe(subscription, qos=1)
    client.loop_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
