"""A TCP proxy that is a bad network: it cuts connections, refuses new ones, swallows what passes,
and holds it back."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
from typing import Self

_CHUNK = 65_536


class TcpProxy:
    """Forwards connections to `target` on the loopback; use it as a context manager."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._peers: dict[socket.socket, socket.socket] = {}
        self._lock = threading.Lock()
        self._refusing = False
        self._frozen = False
        self._open = threading.Event()
        self._open.set()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=f"test/proxy/{self.port}")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        self.stall(False)
        self._thread.join()
        self.cut()
        self._listener.close()
        self._selector.close()

    def cut(self) -> None:
        """Reset all connections."""
        with self._lock:
            for sock in list(self._peers):
                self._drop(sock)

    def refuse(self, refusing: bool = True) -> None:
        """Close each new connection as soon as it is made."""
        self._refusing = refusing

    def freeze(self, frozen: bool = True) -> None:
        """Let nothing through and close nothing: a black hole."""
        self._frozen = frozen

    def stall(self, stalled: bool = True) -> None:
        """Let nothing through and lose nothing: what was sent meanwhile comes afterwards."""
        if stalled:
            self._open.clear()
        else:
            self._open.set()

    def _run(self) -> None:
        while not self._closing:
            self._open.wait()
            for key, _ in self._selector.select(0.02):
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                with self._lock:
                    if sock is self._listener:
                        self._accept()
                    elif sock in self._peers:
                        self._forward(sock)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        if self._refusing:
            client.close()
            return
        try:
            server = socket.create_connection(("127.0.0.1", self._target), 1.0)
        except OSError:
            client.close()
            return
        for sock, peer in ((client, server), (server, client)):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._peers[sock] = peer
            self._selector.register(sock, selectors.EVENT_READ)

    def _forward(self, sock: socket.socket) -> None:
        try:
            data = sock.recv(_CHUNK)
            if data and not self._frozen:
                self._peers[sock].sendall(data)
        except OSError:
            data = b""
        if not data:
            self._drop(sock)

    def _drop(self, sock: socket.socket) -> None:
        peer = self._peers.pop(sock, None)
        if peer is None:
            return
        del self._peers[peer]
        for end in (sock, peer):
            self._selector.unregister(end)
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.close()
