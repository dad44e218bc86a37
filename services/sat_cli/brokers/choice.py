"""Which broker a command starts. The embedded one is imported only where it is the answer: it
brings libraries of its own."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Protocol

from sat_cli.brokers.mosquitto import MosquittoBroker, find_mosquitto
from sat_toolkit.errors import ConfigError


class BrokerKind(StrEnum):
    """Which broker."""

    AUTO = "auto"
    EMBEDDED = "embedded"
    MOSQUITTO = "mosquitto"


class Broker(Protocol):
    """A broker that we run."""

    @property
    def kind(self) -> str: ...

    @property
    def url(self) -> str: ...

    @property
    def ws_url(self) -> str | None: ...

    @property
    def running(self) -> bool: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...


def resolve(kind: BrokerKind, ws_port: int | None = None) -> BrokerKind:
    """What ``auto`` means on this machine."""
    if kind is not BrokerKind.AUTO:
        return kind
    return BrokerKind.MOSQUITTO if ws_port is None and find_mosquitto() else BrokerKind.EMBEDDED


def make(kind: BrokerKind, bind: str, port: int, ws_port: int | None, data: Path) -> Broker:
    """The broker asked for, not yet started.

    Raises:
        ConfigError: Mosquitto was asked for and is not there, or with WebSocket.
    """
    if resolve(kind, ws_port) is BrokerKind.EMBEDDED:
        from sat_cli.brokers.embedded import EmbeddedBroker

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
