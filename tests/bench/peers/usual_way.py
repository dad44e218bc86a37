"""The usual way to bring CAN to MQTT: python-can's Notifier, one JSON message for each frame,
published through paho.

``python -m tests.bench.peers.usual_way SOURCE BROKER_PORT TOPIC QOS``. On a CAN link the bus is
python-can's own; on the stand-in a bus of one method that lets python-can's own code read the
datagrams as frames.
"""

from __future__ import annotations

import json
import socket
import sys
import threading

import can
from can.interfaces.socketcan.socketcan import capture_message

from tests.bench.harness import say
from tests.bench.peers.wire import connected, open_source


class StandInBus(can.BusABC):
    """CAN frames from the datagrams of a UDP socket; `_recv_internal` is as in python-can's
    SocketcanBus."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(channel="stand-in")
        self.socket = sock

    def _recv_internal(self, timeout: float | None) -> tuple[can.Message | None, bool]:
        self.socket.settimeout(timeout)
        try:
            return capture_message(self.socket), True
        except can.CanOperationError:
            return None, True

    def send(self, msg: can.Message, timeout: float | None = None) -> None:
        raise NotImplementedError

    def fileno(self) -> int:
        return self.socket.fileno()


def main() -> None:
    """Forward until it is killed."""
    source, broker, topic, qos = sys.argv[1:]
    port = 0
    bus: can.BusABC
    if source.startswith("can:"):
        bus = can.Bus(source.removeprefix("can:"), "socketcan")
    else:
        sock, port = open_source(source)
        bus = StandInBus(sock)
    client = connected(int(broker), "usual-way")
    level = int(qos)

    def forward(message: can.Message) -> None:
        frame = {"t": message.timestamp, "id": message.arbitration_id, "data": message.data.hex()}
        client.publish(topic, json.dumps(frame), level)

    can.Notifier([bus], [forward])
    say("ready", port=port)
    threading.Event().wait()


if __name__ == "__main__":
    main()
