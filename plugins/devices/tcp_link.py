"""The port of a simulated device on TCP, for a client in another container or on another machine
(``socket://``).

As with a serial port one client has it at a time; a second one waits until the first has gone. What
is written while nobody is connected is lost. Reading and writing never wait.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Final

from sat_toolkit.errors import ConfigError

_CHUNK: Final = 4096
_PEER_MS: Final = 3000  # after which a client that acknowledges nothing has gone


class TcpLink:
    """Listens at `host`:`port`; port 0 is one that is free. Not thread-safe: the loop that selects
    on it owns it."""

    def __init__(self, host: str, port: int) -> None:
        """Raises OSError when it cannot listen there."""
        self._listener = socket.create_server((host, port))
        self._listener.setblocking(False)
        self._client: socket.socket | None = None

    @property
    def port(self) -> str:
        """The URL of pyserial that opens it from this machine."""
        host, port = self._listener.getsockname()[:2]
        return f"socket://{host}:{port}"

    def __str__(self) -> str:
        return self.port

    def fileno(self) -> int:
        """To select on: readable when a client came, wrote or left. It changes with the client."""
        return (self._client or self._listener).fileno()

    def read(self) -> bytes:
        """What the client wrote; nothing when it wrote nothing, left, or has only just come."""
        try:
            if self._client is None:
                self._accept()
                return b""
            data = self._client.recv(_CHUNK)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        if not data:
            self._hang_up()
        return data

    def write(self, data: bytes) -> int:
        """Write as much as the client takes; the number of bytes that it took, or all when there is
        none."""
        if self._client is None:
            return len(data)
        try:
            return self._client.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            self._hang_up()
            return len(data)

    def close(self) -> None:
        """Unplug."""
        self._hang_up()
        self._listener.close()

    def _accept(self) -> None:
        self._client = self._listener.accept()[0]
        self._client.setblocking(False)
        self._client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _PEER_MS)

    def _hang_up(self) -> None:
        if self._client is not None:
            with contextlib.suppress(OSError):
                self._client.close()
            self._client = None


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``. Raises ConfigError."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise ConfigError(
            f"{text!r} is no address to listen at; HOST:PORT is accepted, such as 127.0.0.1:29536"
        )
    return host.strip("[]"), int(port)
