"""What the peers in Python share: the socket that frames come from, and a paho client as its manual
has it."""

from __future__ import annotations

import socket
import threading
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

SO_TIMESTAMPNS = 35


def open_source(source: str) -> tuple[socket.socket, int]:
    """The socket of ``udp:PORT`` (0 picks one) or ``can:LINK`` with the kernel's time stamps on,
    and its port."""
    kind, _, name = source.partition(":")
    if kind == "can":
        sock = socket.socket(socket.PF_CAN, socket.SOCK_RAW, socket.CAN_RAW)
        sock.bind((name,))
        port = 0
    else:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", int(name)))
        port = sock.getsockname()[1]
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    return sock, port


def connected(port: int, client_id: str) -> mqtt.Client:
    """A client with TCP_NODELAY that is connected, its network thread running."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id)
    there = threading.Event()
    client.on_socket_open = nodelay
    client.on_connect = lambda *_: there.set()
    client.connect("127.0.0.1", port)
    client.loop_start()
    if not there.wait(10.0):
        raise SystemExit(f"no broker on port {port}")
    return client


def nodelay(_client: mqtt.Client, _data: Any, sock: Any) -> None:
    """For `on_socket_open`."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
