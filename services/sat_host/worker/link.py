"""A worker's end of the socketpair to its host: messages in and out."""

from __future__ import annotations

import contextlib
import select
import socket
import threading

from sat_host import wire
from sat_host.wire_messages import BatchHeader, Down, Up

SEND_BUFFER = 65_536  # what a reply has to wait behind where frames flood
_READ_BYTES = 65_536


class LinkClosedError(Exception):
    """The host has closed its end: there is nothing more to do."""


class HostLink:
    """The way to the host, for all threads of the worker. Sending blocks while the host does not
    read."""

    def __init__(self, end: socket.socket) -> None:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self._socket = end
        self._lock = threading.Lock()
        self._decoder = wire.Decoder[Down](wire.DOWN)
        self._room = select.poll()
        self._room.register(end, select.POLLOUT)

    def ready(self) -> bool:
        """Whether a batch could be sent now without waiting: nobody sends, and most of the buffer
        is free."""
        try:
            return not self._lock.locked() and bool(self._room.poll(0))
        except OSError as error:
            raise LinkClosedError from error

    def send(self, message: Up) -> None:
        """Send one message. Raises LinkClosedError."""
        self.send_bytes(wire.encode(message))

    def send_bytes(self, data: bytes) -> None:
        """Send what `wire` has encoded.

        Raises:
            LinkClosedError: the host is gone.
        """
        with self._lock:
            try:
                self._socket.sendall(data)
            except OSError as error:
                raise LinkClosedError from error

    def send_batch(self, header: BatchHeader, frames: bytes | memoryview) -> None:
        """Send a batch once most of the buffer is free, so that a reply never waits behind more
        than two.

        Raises:
            LinkClosedError: the host is gone.
        """
        data = wire.encode_batch(header, frames)
        try:
            self._room.poll()
        except OSError as error:
            raise LinkClosedError from error
        self.send_bytes(data)

    def receive(self) -> list[Down]:
        """The next messages, at least one.

        Raises:
            LinkClosedError: the host is gone.
        """
        messages: list[Down] = []
        while not messages:
            try:
                data = self._socket.recv(_READ_BYTES)
            except OSError as error:
                raise LinkClosedError from error
            if not data:
                raise LinkClosedError
            messages.extend(self._decoder.feed(data))
        return messages

    def close(self) -> None:
        """Close both ends' way, so that whoever waits here goes on."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
