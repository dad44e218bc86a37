"""Bare request and reply over MQTT, the usual way: a paho client that sends back what it gets.

``python -m tests.bench.peers.echo PORT REQUEST_TOPIC REPLY_TOPIC``
"""

from __future__ import annotations

import json
import sys
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.bench.harness import say
from tests.bench.peers.wire import nodelay


def main(port: int, request_topic: str, reply_topic: str) -> None:
    """Answer until killed."""

    def answer(client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        request = json.loads(message.payload)
        reply = {"request_id": request["request_id"], "status": "ok", "result": request["args"]}
        client.publish(reply_topic, json.dumps(reply), qos=1)

    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.on_socket_open = nodelay
    client.on_message = answer
    client.on_subscribe = lambda *_: say("ready")
    client.connect("127.0.0.1", port)
    client.subscribe(request_topic, qos=1)
    client.loop_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
