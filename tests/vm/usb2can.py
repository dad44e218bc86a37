"""A USB-CAN adapter that exists in software only, for the guest's own kernel driver (usb_8dev),
which reports states.

The kernel sees it over USB/IP (vhci_hcd) as it sees the real one: an "8 devices" USB2CAN. So a
bus-off, its restart and an unplugged adapter are the kernel's own. QEMU's emulated cards have no
error states. Only the standard library.

Lines on standard input: ``active``, ``warning``, ``passive``, ``bus-off`` and two numbers, the
transmit and receive error counters: the controller is in that state now; ``short`` and ``mend``:
the bus has a short circuit from now on, so that each start ends in bus-off, and none any more;
``frame ID HEX``: one is received. The end of the input is none of the adapter, which outlives who
started it: Debian's kernel 6.1 frees memory twice when one that was used is unplugged. Lines on
standard output: ``attached``; ``started``, ``stopped``: the controller was; ``sent ID HEX``.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import struct
import subprocess
from collections import deque
from pathlib import Path
from typing import Final

ATTACH: Final = Path("/sys/devices/platform/vhci_hcd.0/attach")
FULL_SPEED: Final = 2
STALL, UNLINKED = -32, -104

# USB/IP: every message has 48 bytes, and data behind a submitted OUT and an answered IN.
SUBMIT, UNLINK = 1, 2
_REQUEST = struct.Struct(">5I i i 3I 8s")
_ANSWER = struct.Struct(">5I i i 3I 8x")

DATA_IN, DATA_OUT, COMMAND_IN, COMMAND_OUT = 1, 2, 3, 4
OPEN, CLOSE = 2, 3
STATES: Final = {"active": 0, "warning": 2, "passive": 3, "bus-off": 4}
_COMMAND = struct.Struct(">BxB12xB")
_RECEIVED = struct.Struct(">BBBIB8sIB")
_SENT = struct.Struct(">BBIB8sB")

_ENDPOINTS = b"".join(
    struct.pack("<BBBBHB", 7, 5, address, 2, 64, 0) for address in (0x81, 0x02, 0x83, 0x04)
)
_INTERFACE = bytes((9, 4, 0, 0, 4, 0xFF, 0, 0, 0))
DESCRIPTORS: Final = {
    0x0100: struct.pack(
        "<BBHBBBBHHHBBBB", 18, 1, 0x0200, 0, 0, 0, 64, 0x0483, 0x1234, 0x0100, 0, 2, 0, 1
    ),
    0x0200: struct.pack("<BBHBBBBB", 9, 2, 9 + 9 + len(_ENDPOINTS), 1, 1, 0, 0x80, 50)
    + _INTERFACE
    + _ENDPOINTS,
    0x0300: struct.pack("<BBH", 4, 3, 0x0409),
    0x0302: bytes((36, 3)) + "USB2CAN converter".encode("utf-16-le"),
}


class Adapter:
    """The device at one end of the socket whose other end is the kernel's."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._waiting: dict[int, deque[int]] = {DATA_IN: deque(), COMMAND_IN: deque()}
        self._ready: dict[int, deque[bytes]] = {DATA_IN: deque(), COMMAND_IN: deque()}
        self._shorted = False
        self._started = False

    def serve(self) -> bool:
        """Take one request of the kernel; False when it is gone."""
        head = self._end.recv(_REQUEST.size, socket.MSG_WAITALL)
        if len(head) < _REQUEST.size:
            return False
        kind, number, _, is_in, endpoint, unlinked, length, *_, setup = _REQUEST.unpack(head)
        if kind == UNLINK:
            known = any(
                unlinked in queue and not queue.remove(unlinked) for queue in self._waiting.values()
            )
            self._answer(UNLINK, number, UNLINKED if known else 0)
            return True
        body = b"" if is_in or not length else self._end.recv(length, socket.MSG_WAITALL)
        if endpoint == 0:
            self._control(number, setup)
        elif is_in:
            self._waiting[endpoint].append(number)
            self._flush(endpoint)
        else:
            self._answer(SUBMIT, number, 0, actual=len(body))
            self._take(endpoint, body)
        return True

    def obey(self, line: str) -> None:
        """Do what a line of the input says."""
        word, *args = line.split()
        if word in STATES:
            self._state(STATES[word], int(args[0]), int(args[1]))
        elif word == "frame":
            number, data = int(args[0], 16), bytes.fromhex(args[1])
            self._receive(0, int(number > 0x7FF), number, len(data), data)
        elif word in ("short", "mend"):
            self._shorted = word == "short"
            if self._shorted and self._started:
                self._state(STATES["bus-off"], 255, 0)
        else:
            raise SystemExit(f"unknown: {line!r}")

    def _control(self, number: int, setup: bytes) -> None:
        kind, request, value, _, length = struct.unpack("<BBHHH", setup)
        if kind == 0x80 and request == 6:
            found = DESCRIPTORS.get(value)
            self._answer(SUBMIT, number, STALL if found is None else 0, (found or b"")[:length])
        elif kind & 0x80:
            self._answer(SUBMIT, number, 0, bytes(length))
        else:
            self._answer(SUBMIT, number, 0)

    def _take(self, endpoint: int, body: bytes) -> None:
        if endpoint == DATA_OUT:
            _, flags, number, length, data, _ = _SENT.unpack(body)
            tell(f"sent {number:0{8 if flags & 1 else 3}x} {data[:length].hex()}")
            return
        command = body[2]
        self._ready[COMMAND_IN].append(_COMMAND.pack(0x11, command, 0x22))
        self._flush(COMMAND_IN)
        if command == OPEN:
            self._started = True
            tell("started")
            self._state(STATES["bus-off"], 255, 0) if self._shorted else self._state(
                STATES["active"], 0, 0
            )
        elif command == CLOSE:
            self._started = False
            self._ready[DATA_IN].clear()
            tell("stopped")

    def _state(self, status: int, tx_errors: int, rx_errors: int) -> None:
        self._receive(3, 4, 0, 4, bytes((status, rx_errors, tx_errors, 0)))

    def _receive(self, kind: int, flags: int, number: int, length: int, data: bytes) -> None:
        self._ready[DATA_IN].append(
            _RECEIVED.pack(0x55, kind, flags, number, length, data, 0, 0xAA)
        )
        self._flush(DATA_IN)

    def _flush(self, endpoint: int) -> None:
        ready, waiting = self._ready[endpoint], self._waiting[endpoint]
        while ready and waiting:
            self._answer(SUBMIT, waiting.popleft(), 0, ready.popleft())

    def _answer(
        self, kind: int, number: int, status: int, data: bytes = b"", actual: int = 0
    ) -> None:
        self._end.sendall(
            _ANSWER.pack(kind + 2, number, 0, 0, 0, status, actual or len(data), 0, 0, 0) + data
        )


def tell(text: str) -> None:
    """A line for who started this, if it still listens."""
    with contextlib.suppress(BrokenPipeError):
        os.write(1, f"{text}\n".encode())


def main() -> None:
    """Plug it in, and serve the kernel to the machine's end."""
    if os.fork():
        signal.pause()  # ended with whoever started it
    os.setsid()
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    subprocess.run(["modprobe", "-a", "vhci_hcd", "usb_8dev"], check=True)
    ours, kernels = socket.socketpair()
    ATTACH.write_text(f"0 {kernels.fileno()} 65538 {FULL_SPEED}")
    kernels.close()
    tell("attached")
    adapter, typed = Adapter(ours), b""
    with selectors.DefaultSelector() as selector:
        selector.register(ours, selectors.EVENT_READ)
        selector.register(0, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is ours:
                    if not adapter.serve():
                        return
                elif more := os.read(0, 4096):
                    *lines, typed = (typed + more).split(b"\n")
                    for line in lines:
                        adapter.obey(line.decode())
                else:
                    selector.unregister(0)


if __name__ == "__main__":
    main()
