"""``sat broker``: an MQTT broker for those who run none."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from sat_cli.bench.paths import state_dir
from sat_cli.brokers.choice import BrokerKind, make
from sat_cli.output import err
from sat_toolkit.errors import SatError

_LOOK_EVERY = 0.5  # seconds


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
