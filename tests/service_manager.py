"""A service manager for tests: the socket that a service finds in NOTIFY_SOCKET."""

from __future__ import annotations

import socket


class Manager:
    """Listens at `address`, a path or, with an @ in front, an abstract name."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1))
        self._socket.settimeout(5.0)

    def hear(self, seconds: float = 5.0) -> list[str]:
        self._socket.settimeout(seconds)
        return self._socket.recv(4096).decode().split("\n")

    def hears_nothing(self, seconds: float) -> bool:
        self._socket.settimeout(seconds)
        try:
            return not self._socket.recv(4096)
        except TimeoutError:
            return True

    def drain(self) -> None:
        self._socket.setblocking(False)
        try:
            while self._socket.recv(4096):
                pass
        except BlockingIOError:
            self._socket.settimeout(5.0)

    def close(self) -> None:
        self._socket.close()
