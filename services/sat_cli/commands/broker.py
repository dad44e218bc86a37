"""``sat broker``: an MQTT broker for those who run none."""

from __future__ import annotations

import signal
import threading
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sat_cli.bench.paths import state_dir
from sat_cli.brokers.embedded import EmbeddedBroker, MosquittoBroker
from sat_cli.brokers.mosquitto import find_mosquitto
from sat_cli.output import err
from sat_toolkit.errors import ConfigError, SatError

_LOOK_EVERY = 0.5  # seconds


class BrokerKind(StrEnum):
    """Which broker."""

    AUTO = "auto"
    EMBEDDED = "embedded"
    MOSQUITTO = "mosquitto"


def broker(
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 1883,
    ws_port: Annotated[
        int | None,
        typer.Option(
            min=1, max=65535, help="Also MQTT over WebSocket, there. Embedded broker only."
        ),
    ] = None,
    bind: Annotated[
        str, typer.Option(metavar="ADDRESS", help="There are no users: leave it on loopback.")
    ] = "127.0.0.1",
    kind: Annotated[
        BrokerKind, typer.Option(help="auto: Mosquitto where it is on the PATH, else embedded.")
    ] = BrokerKind.AUTO,
    data: Annotated[
        Path | None,
        typer.Option("--data-dir", metavar="FOLDER", help="Where Mosquitto keeps its state."),
    ] = None,
) -> None:
    """Run an MQTT broker on this machine, for tests and demos.

    Racks run a Mosquitto of their own, with users and TLS.

    sat broker
    sat broker --port 1884 --ws-port 9001
    """
    server = make(kind, bind, port, ws_port, data or state_dir(port) / "broker")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    server.start()
    try:
        where = f"{server.url}{f' and {server.ws_url}' if server.ws_url else ''}"
        err.print(f"{server.kind} broker on {where}; Ctrl-C ends it")
        while not stop.wait(_LOOK_EVERY):
            if not server.running:
                raise SatError(f"the {server.kind} broker has ended by itself")
    finally:
        server.stop()


def make(
    kind: BrokerKind, bind: str, port: int, ws_port: int | None, data: Path
) -> EmbeddedBroker | MosquittoBroker:
    """The broker asked for, not yet started.

    Raises:
        ConfigError: Mosquitto was asked for and is not there, or with WebSocket.
    """
    if resolve(kind, ws_port) is BrokerKind.EMBEDDED:
        return EmbeddedBroker(bind, port, ws_port)
    binary = find_mosquitto()
    if binary is None:
        raise ConfigError(
            "--kind mosquitto: there is no mosquitto on the PATH; install it (Debian: apt install mosquitto)"
        )
    if ws_port is not None:
        raise ConfigError(
            "--ws-port: Mosquitto without users cannot check which web page connects; use --kind embedded"
        )
    return MosquittoBroker(binary, bind, port, data_dir=data)


def resolve(kind: BrokerKind, ws_port: int | None = None) -> BrokerKind:
    """What ``auto`` means on this machine."""
    if kind is not BrokerKind.AUTO:
        return kind
    return BrokerKind.MOSQUITTO if ws_port is None and find_mosquitto() else BrokerKind.EMBEDDED
